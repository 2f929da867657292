package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stllm/stllm/bags/rea"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
)

// exporter writes items as REA items; what several show is written once.
type exporter struct {
	dir    string
	first  map[string]int64 // scene → stamp of its first frame
	names  map[string]map[int64]string
	maps   map[string]string
	scenes map[string]bool
}

// Export writes a source's items as a REA list with all that it refers to:
//
//	DIR/items.json
//	DIR/SCENE/frames/frame_0000000001.jpg    numbered from 1, 60 a second, by the first frame of the scene
//	DIR/SCENE/poses/ITEM/frame_0000000001.txt
//	DIR/SCENE/K_640x480.txt, DIR/SCENE/MAP_vert.npy
//
// A scene is what stands before the slash of an id. It returns the list's path; items that cannot be opened are returned as
// failures and left out. progress, which may be nil, is told of the items that are done.
func Export(ctx context.Context, src Source, dir string, progress func(done, total int)) (list string, failed []Failure, err error) {
	items, err := src.Items(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("export %s: %w", src.Name(), err)
	}
	inspect(items)
	e := &exporter{dir, map[string]int64{}, map[string]map[int64]string{}, map[string]string{}, map[string]bool{}}
	var out []rea.Item
	total := len(items)
	for len(items) > 0 { // a scene at a time: its pictures are shared, and may be many
		n := 1
		for n < len(items) && sceneOf(items[n].ID) == sceneOf(items[0].ID) {
			n++
		}
		done, bad, err := e.scene(ctx, items[:n], len(out))
		if err != nil {
			return "", failed, fmt.Errorf("export %s: %w", src.Name(), err)
		}
		out, failed, items = append(out, done...), append(failed, bad...), items[n:]
		if progress != nil {
			progress(total-len(items), total)
		}
	}
	if len(out) == 0 {
		return "", failed, fmt.Errorf("export %s: none of its %d items can be written as REA items, for example: %s", src.Name(), len(failed), failed[0].Error)
	}
	list = filepath.Join(dir, "items.json")
	return list, failed, rea.Write(list, out)
}

// scene writes the items of one scene. Frames are numbered from the earliest one, whatever the order of the items.
func (e *exporter) scene(ctx context.Context, items []Item, id int) (out []rea.Item, failed []Failure, err error) {
	clips := make([]*Clip, len(items))
	for i := range items {
		it := &items[i]
		broken := it.Err
		if broken == nil && it.Task == stllm.TaskFree {
			broken = errors.New("it has no task, and REA items have one of five")
		}
		if broken == nil {
			if clips[i], broken = it.Open(ctx); broken == nil {
				broken = clips[i].check()
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if broken != nil {
			failed = append(failed, Failure{it.ID, broken.Error()})
			clips[i] = nil
			continue
		}
		sc := sceneOf(it.ID)
		if at, ok := e.first[sc]; !ok || clips[i].Frames[0].Stamp < at {
			e.first[sc] = clips[i].Frames[0].Stamp
		}
	}
	for i, c := range clips {
		if c == nil {
			continue
		}
		it, err := e.item(&items[i], c, strconv.Itoa(id+len(out)))
		if err != nil {
			return nil, nil, fmt.Errorf("item %s of %s: %w", items[i].ID, items[i].File, err)
		}
		out = append(out, it)
	}
	return out, failed, nil
}

func sceneOf(id string) string {
	if at := strings.LastIndexByte(id, '/'); at >= 0 {
		return fileName(id[:at])
	}
	return "scene"
}

// item writes what is not there yet and refers to it. The id is the place in the list, as released readers want it.
func (e *exporter) item(it *Item, c *Clip, id string) (rea.Item, error) {
	sc := sceneOf(it.ID)
	short := it.ID[strings.LastIndexByte(it.ID, '/')+1:]
	frames, poses := filepath.Join(sc, "frames"), filepath.Join(sc, "poses", fileName(short))
	for _, d := range []string{frames, poses} {
		if err := os.MkdirAll(filepath.Join(e.dir, d), 0o755); err != nil {
			return rea.Item{}, err
		}
	}
	if e.names[sc] == nil {
		e.names[sc] = map[int64]string{}
	}
	numbers := [2]int{}
	for i, f := range c.Frames {
		name, ok := e.names[sc][f.Stamp]
		if !ok {
			var err error
			if name, err = e.frame(sc, frames, f); err != nil {
				return rea.Item{}, err
			}
		}
		n := frameNumber(name)
		if i == 0 {
			numbers[0] = n
		}
		numbers[1] = n
		m := f.Pose.Matrix()
		var text strings.Builder
		for j, v := range m {
			text.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
			text.WriteByte(" \n"[(j%4)/3])
		}
		if err := os.WriteFile(filepath.Join(e.dir, poses, name+".txt"), []byte(text.String()), 0o644); err != nil {
			return rea.Item{}, err
		}
	}
	k, err := e.intrinsics(sc, c.Frames[0])
	if err != nil {
		return rea.Item{}, err
	}
	cloud, err := e.cloud(sc, c.Map)
	if err != nil {
		return rea.Item{}, err
	}
	kind := string(it.Task)
	return rea.Item{ID: id, SceneID: sc, Video: frames, PointCloud: cloud, C2Ws: poses, K: k,
		Conversations: []rea.Conversation{{From: "human", Value: rea.Placeholders + it.Question}, {From: "gpt", Value: it.Reference}},
		Metadata: rea.Metadata{Dataset: "REA", QuestionType: kind, QueryStartFrame: numbers[0], QueryStopFrame: numbers[1],
			Source: it.ID, Group: it.Group, Label: it.Label, About: it.About, Choices: it.Choices}}, nil
}

// frame writes a picture under the number of its time.
func (e *exporter) frame(sc, dir string, f Frame) (string, error) {
	n := 1 + int64(math.Round(float64(f.Stamp-e.first[sc])*reaRate/1e9))
	name := ""
	for taken := true; taken; n++ { // cameras faster than the numbering
		name = fmt.Sprintf("frame_%010d", n)
		taken = false
		for _, other := range e.names[sc] {
			taken = taken || other == name
		}
	}
	p := f.Picture
	if p.Width != f.Width || p.Height != f.Height {
		return "", fmt.Errorf("frame %s: the picture has %d × %d pixels, its intrinsics are of %d × %d", f.Name, p.Width, p.Height, f.Width, f.Height)
	}
	data, err := p.JPEG(95)
	if err != nil {
		return "", err
	}
	e.names[sc][f.Stamp] = name
	return name, os.WriteFile(filepath.Join(e.dir, dir, name+".jpg"), data, 0o644)
}

func frameNumber(name string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(name, "frame_")) // made above
	return n
}

// intrinsics writes K once for every one that a scene has.
func (e *exporter) intrinsics(sc string, f Frame) (string, error) {
	k := f.K
	key := fmt.Sprint(sc, k)
	if path, ok := e.maps[key]; ok {
		return path, nil
	}
	path := filepath.Join(sc, fmt.Sprintf("K_%dx%d_%.6g.txt", f.Width, f.Height, k[0]))
	var text strings.Builder
	for r := range 3 {
		for c := range 3 {
			fmt.Fprint(&text, strconv.FormatFloat(k[3*r+c], 'g', -1, 64), " ")
		}
		text.WriteByte('\n')
	}
	e.maps[key] = path
	return path, os.WriteFile(filepath.Join(e.dir, path), []byte(text.String()), 0o644)
}

func (e *exporter) cloud(sc string, c *scene.Cloud) (string, error) {
	path := filepath.Join(sc, c.ID()+"_vert.npy")
	if e.scenes[path] {
		return path, nil
	}
	e.scenes[path] = true
	return path, scene.WriteFile(filepath.Join(e.dir, path), c)
}
