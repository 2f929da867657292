package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/stllm/stllm/bags/check"
)

func (a *app) bagCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "bag", Short: "Look into bags, play them"}
	var o check.Options
	info := &cobra.Command{
		Use:   "info BAG…",
		Short: "Show topics, types, counts, spans and damage",
		Args:  atLeast(1, "one bag or more"),
		RunE:  func(_ *cobra.Command, args []string) error { return check.Info(a.out, args, o) },
	}
	examine := &cobra.Command{
		Use:   "check BAG…",
		Short: "Say whether the node finds what it needs: camera, camera_info, TF at the images' stamps, map; and whether its depth images fit",
		Args:  atLeast(1, "one bag or more"),
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := check.Check(a.out, args, o)
			if err != nil {
				return err
			}
			if !r.Usable {
				return errors.New("the node cannot work from this bag; see above")
			}
			return nil
		},
	}
	for _, c := range []*cobra.Command{info, examine} {
		c.Flags().BoolVar(&o.JSON, "json", false, "write JSON")
	}
	f := examine.Flags()
	f.StringVar(&o.FixedFrame, "fixed-frame", "map", "frame that poses and the map are kept in")
	f.StringVar(&o.Image, "image", "", "image topic (default: the first one)")
	f.StringVar(&o.CameraInfo, "camera-info", "", "camera_info topic (default: the image's sibling)")
	f.StringVar(&o.Depth, "depth", "", "topic of registered depth images (default: the likeliest by its name)")
	f.StringVar(&o.Map, "map", "", "map cloud topic (default: the first PointCloud2)")
	cmd.AddCommand(info, examine, a.bagPlayCommand())
	return group(cmd)
}
