package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stllm/stllm/msgs"
)

// points looks at a map cloud. Its data is not kept.
func (e *exam) points(v *msgs.PointCloud2, log int64) {
	if e.clouds == 0 {
		e.cloudFirst = log
	}
	e.clouds++
	head := *v
	head.Data = nil
	e.cloudLast = &head
	if got, want := uint64(len(v.Data)), uint64(v.RowStep)*uint64(v.Height); got < want {
		u := e.undecoded[e.cloud]
		if u.count == 0 {
			u.first = fmt.Errorf("data has %d bytes, row_step × height is %d", got, want)
		}
		u.count++
		e.undecoded[e.cloud] = u
	}
}

func (e *exam) concludeMap() {
	r := e.report
	switch {
	case e.cloud == "":
		r.add(Error, "map", "no topic has sensor_msgs/PointCloud2 messages",
			"Record the map's cloud (latched, or at least once after the recorder starts), or give another bag that has it.")
		return
	case e.clouds == 0:
		r.add(Error, "map", fmt.Sprintf("no messages can be read on %s; clouds are on: %s", e.cloud, e.names("sensor_msgs/PointCloud2")),
			"Name one of these as the map.")
		return
	}
	c := e.cloudLast
	var fields []string
	for _, f := range c.Fields {
		fields = append(fields, f.Name)
	}
	frame := strings.TrimPrefix(c.Header.FrameID, "/")
	number := uint64(c.Width) * uint64(c.Height)
	missing := slices.DeleteFunc([]string{"x", "y", "z"}, func(f string) bool { return slices.Contains(fields, f) })
	switch {
	case len(missing) > 0:
		r.add(Error, "map", fmt.Sprintf("%s has no field %s, only: %s", e.cloud, strings.Join(missing, ", "), strings.Join(fields, " ")),
			"Name a cloud with x, y and z.")
		return
	case number == 0:
		r.add(Error, "map", fmt.Sprintf("the last cloud on %s is empty", e.cloud), "Wait for the map before recording, or name another topic.")
		return
	}
	r.add(OK, "map", fmt.Sprintf("%d clouds on %s, the last with %d points (%s) in frame %q", e.clouds, e.cloud, number, strings.Join(fields, " "), frame), "")
	if !slices.ContainsFunc(fields, func(f string) bool { return f == "rgb" || f == "rgba" || f == "r" || f == "red" }) {
		r.add(Warning, "map", "the map has no colours", "It is used with grey points; answers about looks come from the pictures alone.")
	}
	if _, _, err := e.buffer.Lookup(e.opts.FixedFrame, frame, 0); err != nil && frame != strings.TrimPrefix(e.opts.FixedFrame, "/") {
		r.add(Error, "map", fmt.Sprintf("the map's frame %q has no transform to %q: %v", frame, e.opts.FixedFrame, err),
			fmt.Sprintf("Publish that link, or set fixed_frame to %q.", frame))
	}
	if late := e.cloudFirst - e.firstImage; r.Images > 0 && late > 1e9 {
		r.add(Warning, "map", fmt.Sprintf("the first cloud comes %.1f s after the first picture", float64(late)/1e9),
			"Questions before it are answered with an error; ask later.")
	}
}
