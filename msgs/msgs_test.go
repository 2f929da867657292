package msgs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs/idl"
)

// Sums as genpy of ROS 1 (Debian 12) has them.
func TestMD5(t *testing.T) {
	for typ, want := range map[string]string{
		"std_msgs/String": "992ce8a1687cec8c8bd883ec73ca41d1", "std_msgs/Header": "2176decaecbce78abc3b96ef049fabed",
		"std_msgs/Empty": "d41d8cd98f00b204e9800998ecf8427e", "sensor_msgs/Image": "060021388200f6f0f447d0fcd9c64743",
		"sensor_msgs/CompressedImage": "8f7a12909da2c9d3332d540a0977563f", "sensor_msgs/CameraInfo": "c9a58c1b0b154e0e6da7578cb991d214",
		"sensor_msgs/PointCloud2": "1158d486dd51d683ce2f1be655c3c181", "tf2_msgs/TFMessage": "94810edda583a504dfda3829e70d7eec",
		"nav_msgs/Path": "6227e2b7e9cce15051f669a5e197bbf7", "nav_msgs/Odometry": "cd5e73d190d741a2f92e81eda573aca7",
		"visualization_msgs/MarkerArray": "d155b9ce5188fbaf89745847fd5882d7", "diagnostic_msgs/DiagnosticArray": "60810da900de1dd6ddd437c3503511da",
		"rosgraph_msgs/Clock": "a9c97c1d230cfc112e270351a944ee47", "rosgraph_msgs/Log": "acffd30cd6b6de30f120938c17c593fb",
		"geometry_msgs/PoseStamped": "d3812c3cbc69362b77dc0b19b345f8f5", "std_srvs/Trigger": "937c9679a518e3a18d831e57125ea522",
		"std_srvs/Empty": "d41d8cd98f00b204e9800998ecf8427e", "std_srvs/SetBool": "09fb03525b03e7ea1fd3992bafd87e16",
	} {
		if got, err := MD5(typ); err != nil || got != want {
			t.Errorf("%s: %s (%v), expected %s", typ, got, err, want)
		}
	}
}

func TestEveryTypeHasNamesInItsGenerations(t *testing.T) {
	for _, e := range []Encoding{ROS1, CDR} {
		for _, key := range Definitions(e).Keys() {
			if strings.HasSuffix(key, "_Event") || strings.HasPrefix(key, "builtin_interfaces/") {
				continue
			}
			m, ok := New(key)
			if !ok || m.ROSType() != key {
				t.Errorf("%s: no Go struct", key)
				continue
			}
			if _, err := Definition(key, e); err != nil {
				t.Errorf("%s: %v", key, err)
			}
			if err := Compatible(key, e, must(Definition(key, e))); err != nil {
				t.Errorf("%s is not compatible with itself: %v", key, err)
			}
		}
	}
}

// A ROS 2 node of ours speaks types of these packages, with all services and messages that parameters, lifecycle, actions and
// the graph need.
func TestPackagesOfROS2(t *testing.T) {
	have := map[string]bool{}
	for _, key := range Definitions(CDR).Keys() {
		pkg, _, _ := strings.Cut(key, "/")
		have[pkg] = true
	}
	for _, pkg := range []string{"std_msgs", "geometry_msgs", "sensor_msgs", "tf2_msgs", "nav_msgs", "visualization_msgs", "diagnostic_msgs", "std_srvs", "action_msgs",
		"unique_identifier_msgs", "rcl_interfaces", "lifecycle_msgs", "rosgraph_msgs", "rmw_dds_common", "service_msgs", "builtin_interfaces", "bond", "stllm_msgs"} {
		if !have[pkg] {
			t.Errorf("no type of %s", pkg)
		}
	}
	for _, srv := range []string{"rcl_interfaces/ListParameters", "rcl_interfaces/GetParameters", "rcl_interfaces/GetParameterTypes", "rcl_interfaces/SetParameters",
		"rcl_interfaces/SetParametersAtomically", "rcl_interfaces/DescribeParameters", "lifecycle_msgs/ChangeState", "lifecycle_msgs/GetState",
		"lifecycle_msgs/GetAvailableStates", "lifecycle_msgs/GetAvailableTransitions", "action_msgs/CancelGoal", "stllm_msgs/Ask", "stllm_msgs/PlanAction",
		"stllm_msgs/Ask_SendGoal", "stllm_msgs/Ask_GetResult", "stllm_msgs/PlanAction_SendGoal", "stllm_msgs/PlanAction_GetResult"} {
		if _, err := TypeHash(srv); err != nil {
			t.Errorf("%s: %v", srv, err)
		}
		for _, part := range []string{"_Request", "_Response"} {
			if _, ok := New(srv + part); !ok {
				t.Errorf("no Go struct for %s", srv+part)
			}
		}
	}
	for _, action := range []string{"stllm_msgs/Ask", "stllm_msgs/PlanAction"} {
		for _, part := range []string{"_Goal", "_Result", "_Feedback", "_FeedbackMessage"} {
			if _, ok := New(action + part); !ok {
				t.Errorf("no Go struct for %s", action+part)
			}
		}
	}
}

func must(s string, err error) string {
	if err != nil {
		panic(err)
	}
	return s
}

// fill sets every field to something random.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i))
		}
	case reflect.Slice:
		n := r.IntN(2) // some sequences are bounded by 1
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(r, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.String:
		v.SetString(strings.Repeat("é", r.IntN(3)) + strings.Repeat("x", r.IntN(6)))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(float32(r.NormFloat64())))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(int8(r.Uint32())))
	default:
		v.SetUint(uint64(uint8(r.Uint32())))
	}
}

// What one encoding writes it reads back, and writes again byte for byte; empty and nil slices are the same on the wire.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, e := range []Encoding{ROS1, CDR} {
		for _, key := range Definitions(e).Keys() {
			m, ok := New(key)
			if !ok {
				continue
			}
			for range 20 {
				fill(r, reflect.ValueOf(m).Elem())
				data, err := e.Marshal(m)
				if err != nil {
					t.Fatalf("%s %s: %v", e, key, err)
				}
				back, _ := New(key)
				if err := e.Unmarshal(data, back); err != nil {
					t.Fatalf("%s %s: %v", e, key, err)
				}
				again, err := e.Marshal(back)
				if err != nil || !bytes.Equal(data, again) {
					t.Fatalf("%s %s: written again it differs (%v)\n%x\n%x", e, key, err, data, again)
				}
				for cut := range len(data) {
					part, _ := New(key)
					err := e.Unmarshal(data[:cut], part)
					var de *DecodeError
					if err != nil && !errors.As(err, &de) {
						t.Fatalf("%s %s cut at %d: %v", e, key, cut, err)
					}
					// Up to three bytes at the end of CDR are padding.
					if err == nil && (e == ROS1 || len(data)-cut > 3) {
						t.Fatalf("%s %s: %d of %d bytes were taken for whole", e, key, cut, len(data))
					}
				}
			}
		}
	}
}

func TestKnownBytes(t *testing.T) {
	m := &Image{Header: Header{Seq: 7, Stamp: Time{1, 2}, FrameID: "cam"}, Height: 1, Width: 2, Encoding: "mono8", Step: 2, Data: []byte{8, 9}}
	ros1 := "\x07\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00cam\x01\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x00mono8\x00\x02\x00\x00\x00\x02\x00\x00\x00\x08\x09"
	cdr := "\x00\x01\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x04\x00\x00\x00cam\x00\x01\x00\x00\x00\x02\x00\x00\x00\x06\x00\x00\x00mono8\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x08\x09\x00\x00"
	for e, want := range map[Encoding]string{ROS1: ros1, CDR: cdr} {
		if got, err := e.Marshal(m); err != nil || string(got) != want {
			t.Errorf("%s: %q (%v)\nexpected %q", e, got, err, want)
		}
	}
	if got, _ := CDR.Marshal(&TriggerRequest{}); string(got) != "\x00\x01\x00\x00\x00\x00\x00\x00" {
		t.Errorf("empty request: %x", got)
	}
}

func TestBigEndianCDR(t *testing.T) {
	var c Clock
	if err := CDR.Unmarshal([]byte{0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 9}, &c); err != nil || c.Clock != (Time{5, 9}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func must2(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestHostileBytes(t *testing.T) {
	for name, tc := range map[string]struct {
		e    Encoding
		data string
		m    Message
		want string
	}{
		"length beyond":  {CDR, "\x00\x01\x00\x00\xff\xff\xff\xff", &String{}, "4294967295"},
		"no NUL":         {CDR, "\x00\x01\x00\x00\x02\x00\x00\x00ab", &String{}, "NUL"},
		"PL_CDR":         {CDR, "\x00\x03\x00\x00\x00\x00\x00\x00", &String{}, "PL_CDR_LE"},
		"XCDR2":          {CDR, "\x00\x07\x00\x00\x00\x00\x00\x00", &String{}, "XCDR2"},
		"nothing":        {CDR, "", &String{}, "header"},
		"count beyond":   {ROS1, "\xff\xff\xff\x7f", &TFMessage{}, "transforms"},
		"rest":           {ROS1, "\x01\x00\x00\x00abc", &String{}, "left over"},
		"wrong encoding": {Encoding(9), "", &String{}, "unknown encoding"},
	} {
		err := tc.e.Unmarshal([]byte(tc.data), tc.m)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, expected something with %q", name, err, tc.want)
		}
	}
	if err := ROS1.Unmarshal(nil, (*String)(nil)); err == nil {
		t.Error("a nil message was accepted")
	}
}

func TestKey(t *testing.T) {
	for in, want := range map[string]string{
		"sensor_msgs/Image": "sensor_msgs/Image", "sensor_msgs/msg/Image": "sensor_msgs/Image",
		"sensor_msgs::msg::dds_::Image_": "sensor_msgs/Image", "stllm_msgs::srv::dds_::Ask_Request_": "stllm_msgs/Ask_Request",
	} {
		if got := Key(in); got != want {
			t.Errorf("%s: %s, expected %s", in, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, ns := range []int64{0, 1, 999999999, 1700000000123456789, 4e18} {
		if got := TimeFromNanos(ns).UnixNano(); got != ns {
			t.Errorf("%d became %d", ns, got)
		}
	}
	if got := DurationFromNanos(-1500000000); got.Nanos() != -1500000000 {
		t.Errorf("%+v is %d ns", got, got.Nanos())
	}
}

// What can be read at all is written and read again as the same bytes.
func FuzzUnmarshal(f *testing.F) {
	keys := map[Encoding][]string{}
	for _, e := range []Encoding{ROS1, CDR} {
		for _, key := range Definitions(e).Keys() {
			if m, ok := New(key); ok {
				keys[e] = append(keys[e], key)
				fill(rand.New(rand.NewPCG(5, 6)), reflect.ValueOf(m).Elem())
				if data, err := e.Marshal(m); err == nil {
					f.Add(byte(len(keys[e])-1), e == ROS1, data)
				}
			}
		}
	}
	f.Add(byte(0), false, []byte{0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, which byte, ros1 bool, data []byte) {
		e := CDR
		if ros1 {
			e = ROS1
		}
		key := keys[e][int(which)%len(keys[e])]
		m, _ := New(key)
		if e.Unmarshal(data, m) != nil {
			return
		}
		first, err := e.Marshal(m)
		if err != nil {
			t.Fatalf("%s %s was read but cannot be written: %v", e, key, err)
		}
		back, _ := New(key)
		if err := e.Unmarshal(first, back); err != nil {
			t.Fatalf("%s %s: %v", e, key, err)
		}
		if second, _ := e.Marshal(back); !bytes.Equal(first, second) {
			t.Fatalf("%s %s\n%x\n%x", e, key, first, second)
		}
	})
}

func FuzzDefinition(f *testing.F) {
	f.Add("uint8 A=1\nstring s 'x' # c\nfoo/Bar[<=3] b\nHeader header")
	f.Add("string C=a # b\nfloat64[9] k")
	f.Fuzz(func(_ *testing.T, text string) {
		for _, gen := range []idl.Generation{idl.ROS1, idl.ROS2} {
			_, _ = idl.Parse("p", "N", "msg", text, gen)
		}
	})
}

// Images and clouds cost no copy; "copy" is what a decoder that copies would pay at least.
func BenchmarkDecode(b *testing.B) {
	image := &Image{Height: 1080, Width: 1920, Encoding: "rgb8", Step: 5760, Data: make([]byte, 1080*5760)}
	cloud := &PointCloud2{Height: 1, Width: 1e6, PointStep: 16, Fields: make([]PointField, 4), Data: make([]byte, 16e6)}
	tf := &TFMessage{Transforms: make([]TransformStamped, 50)}
	for i := range tf.Transforms {
		tf.Transforms[i].Header.FrameID, tf.Transforms[i].ChildFrameID = "odom", "base_link"
	}
	for _, m := range []Message{image, cloud, tf} {
		for _, e := range []Encoding{ROS1, CDR} {
			data, err := e.Marshal(m)
			if err != nil {
				b.Fatal(err)
			}
			b.Run(m.ROSType()+"/"+e.String(), func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					out, _ := New(m.ROSType())
					if err := e.Unmarshal(data, out); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		data, _ := CDR.Marshal(m)
		b.Run(m.ROSType()+"/copy", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if len(bytes.Clone(data)) != len(data) {
					b.Fatal("short")
				}
			}
		})
	}
}
