package trainer

import (
	"errors"
	"fmt"
	"slices"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/trainer/weights"
)

// encoderPrefixes are the parts that [borrow] takes over.
func encoderPrefixes() []string { return append(visionPrefixes(), layout.PointEncoder) }

// lends checks that a folder has all encoders of a model, in its shapes.
func lends(folder string, model *checkpoint.Folder) (err error) {
	f, err := checkpoint.OpenFolder(folder)
	if err != nil {
		return fmt.Errorf("encoders: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, own := range model.Tensors {
		if !hasPrefix(own.Name, encoderPrefixes()) {
			continue
		}
		t, ok := f.Tensor(own.Name)
		if !ok {
			return fmt.Errorf("encoders: %s has no tensor %s", folder, own.Name)
		}
		if !slices.Equal(t.Shape, own.Shape) {
			return fmt.Errorf("encoders: %s of %s is %v, the model to train has %v", own.Name, folder, t.Shape, own.Shape)
		}
	}
	return nil
}

// borrow takes the encoders' weights from a trained model folder: point encoder, vision tower and projector.
func borrow(w *weights.Set, folder string) (err error) {
	f, err := checkpoint.OpenFolder(folder)
	if err != nil {
		return fmt.Errorf("encoders: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	own := w.Names(encoderPrefixes()...)
	theirs, err := weights.Pick(f, own)
	if err != nil {
		return fmt.Errorf("encoders: %w", err)
	}
	for _, name := range own {
		to, err := w.Get(name)
		if err != nil {
			return err
		}
		from, err := theirs.Need(name, to.Shape...)
		if err != nil {
			return fmt.Errorf("encoders: %w", err)
		}
		copy(to.Data, from.Data)
	}
	return nil
}
