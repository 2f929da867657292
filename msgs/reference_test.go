package msgs

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs/idl"
)

// reference encodes CDR in either endianness, one value after the other by reflection: slow, and written apart from the plans
// that it is compared with.
type reference struct {
	order binary.ByteOrder
	out   []byte
}

func referenceCDR(order binary.ByteOrder, m Message) []byte {
	r := &reference{order: order}
	spec, _ := Definitions(CDR).Spec(m.ROSType())
	r.message(spec, reflect.ValueOf(m).Elem())
	for len(r.out)%4 != 0 {
		r.out = append(r.out, 0)
	}
	head := []byte{0, 1, 0, 0}
	if order == binary.BigEndian {
		head[1] = 0
	}
	return append(head, r.out...)
}

func (r *reference) number(bits uint64, size int) {
	for len(r.out)%size != 0 {
		r.out = append(r.out, 0)
	}
	b := make([]byte, 8)
	if r.order == binary.BigEndian {
		binary.BigEndian.PutUint64(b, bits)
		r.out = append(r.out, b[8-size:]...)
		return
	}
	binary.LittleEndian.PutUint64(b, bits)
	r.out = append(r.out, b[:size]...)
}

func (r *reference) message(spec *idl.Spec, v reflect.Value) {
	if len(spec.Fields) == 0 {
		r.out = append(r.out, 0)
	}
	for _, f := range spec.Fields {
		field := v.FieldByNameFunc(func(name string) bool {
			return strings.EqualFold(name, strings.ReplaceAll(f.Name, "_", ""))
		})
		if f.Type.Kind == idl.Single {
			r.value(f.Type, field)
			continue
		}
		if f.Type.Kind != idl.Fixed {
			r.number(uint64(field.Len()), 4)
		}
		for i := range field.Len() {
			r.value(f.Type, field.Index(i))
		}
	}
}

func (r *reference) value(t idl.Type, v reflect.Value) {
	if !t.Builtin() {
		spec, _ := Definitions(CDR).Spec(t.Key())
		r.message(spec, v)
		return
	}
	switch v.Kind() {
	case reflect.String:
		r.number(uint64(v.Len()+1), 4)
		r.out = append(append(r.out, v.String()...), 0)
	case reflect.Bool:
		n := uint64(0)
		if v.Bool() {
			n = 1
		}
		r.number(n, 1)
	case reflect.Float32:
		r.number(uint64(math.Float32bits(float32(v.Float()))), 4)
	case reflect.Float64:
		r.number(math.Float64bits(v.Float()), 8)
	default:
		bits := uint64(0)
		if v.CanInt() {
			bits = uint64(v.Int())
		} else {
			bits = v.Uint()
		}
		r.number(bits, v.Type().Bits()/8)
	}
}

// The plans write what the reference writes, and read both of its byte orders as the same message.
func TestPlansAgreeWithReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, key := range Definitions(CDR).Keys() {
		m, ok := New(key)
		if !ok {
			continue
		}
		for range 20 {
			fill(rnd, reflect.ValueOf(m).Elem())
			want := referenceCDR(binary.LittleEndian, m)
			got, err := CDR.Marshal(m)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s (%v):\n%x\nreference\n%x", key, err, got, want)
			}
			back, _ := New(key)
			if err := CDR.Unmarshal(referenceCDR(binary.BigEndian, m), back); err != nil {
				t.Fatalf("%s, big endian: %v", key, err)
			}
			if again, _ := CDR.Marshal(back); !bytes.Equal(again, want) {
				t.Fatalf("%s, big endian:\n%x\nexpected\n%x", key, again, want)
			}
		}
	}
}

// A message that is used again keeps nothing of what it held, also in fields that the encoding does not have.
func TestUnmarshalEmptiesTheMessage(t *testing.T) {
	data := must2(CDR.Marshal(&PointCloud2{Width: 3}))
	m := &PointCloud2{Header: Header{Seq: 9, FrameID: "map"}, Fields: make([]PointField, 2), IsDense: true, Data: []byte{1}}
	if err := CDR.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	if m.Header != (Header{}) || len(m.Fields) != 0 || m.IsDense || len(m.Data) != 0 || m.Width != 3 {
		t.Errorf("%+v", m)
	}
}

// Byte arrays point into the payload, numbers are copied out of it.
func TestAliasing(t *testing.T) {
	data := must2(CDR.Marshal(&Image{Data: []byte{1, 2, 3, 4}}))
	var m Image
	if err := CDR.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	data[len(data)-4] = 77
	if m.Data[0] != 77 || cap(m.Data) != 4 {
		t.Errorf("data %v with room for %d, expected 77 first and no room to append into the payload", m.Data, cap(m.Data))
	}
	data = must2(CDR.Marshal(&CameraInfo{D: []float64{1}}))
	var c CameraInfo
	if err := CDR.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	clear(data)
	if c.D[0] != 1 {
		t.Errorf("D became %v", c.D)
	}
}

func TestMarshalChecksBounds(t *testing.T) {
	for name, tc := range map[string]struct {
		m    Message
		want string
	}{
		"sequence": {&ParameterDescriptor{IntegerRange: make([]IntegerRange, 2)}, "integer_range: 2 elements, at most 1"},
		"string":   {&NodeEntitiesInfo{NodeName: strings.Repeat("x", 257)}, "node_name: 257 bytes of text, at most 256"},
		"within":   {&NodeEntitiesInfo{NodeName: strings.Repeat("x", 256)}, ""},
	} {
		before := []byte("kept")
		got, err := CDR.AppendMarshal(before, tc.m)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, expected %q", name, err, tc.want)
		}
		if err != nil && string(got) != "kept" {
			t.Errorf("%s: returned %q after an error", name, got)
		}
	}
	// Read, too: a foreign writer need not keep to them.
	info := must2(CDR.Marshal(&ParameterDescriptor{IntegerRange: make([]IntegerRange, 1)}))
	for i := len(info) - 25; i >= 4; i-- {
		if info[i] == 1 && bytes.Equal(info[i+1:i+4], []byte{0, 0, 0}) {
			info[i] = 2
			break
		}
	}
	err := CDR.Unmarshal(append(info, make([]byte, 64)...), &ParameterDescriptor{})
	if err == nil || !strings.Contains(err.Error(), "at most 1 are allowed") {
		t.Errorf("2 ranges: %v", err)
	}
}

// A declared length costs nothing before the payload is known to hold it.
func TestHostileLengthsAllocateNothing(t *testing.T) {
	for _, tc := range []struct {
		e    Encoding
		data string
		m    Message
	}{
		{ROS1, "\xff\xff\xff\x7f", &TFMessage{}},
		{CDR, "\x00\x01\x00\x00\xff\xff\xff\x7f", &TFMessage{}},
		{CDR, "\x00\x01\x00\x00\xff\xff\xff\xff", &MarkerArray{}},
		{ROS1, "\xff\xff\xff\xff", &String{}},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := tc.e.Unmarshal([]byte(tc.data), tc.m)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; err == nil || n > 1<<20 {
			t.Errorf("%s %s: %d bytes allocated, error %v", tc.e, tc.m.ROSType(), n, err)
		}
	}
}

func TestCompatible(t *testing.T) {
	info1, info2 := must(Definition("sensor_msgs/CameraInfo", ROS1)), must(Definition("sensor_msgs/CameraInfo", CDR))
	hash := must(TypeHash("sensor_msgs/CameraInfo"))
	for name, tc := range map[string]struct {
		typ     string
		e       Encoding
		foreign string
		want    string // "" is compatible
	}{
		"MD5":             {"sensor_msgs/CameraInfo", ROS1, "c9a58c1b0b154e0e6da7578cb991d214", ""},
		"other MD5":       {"sensor_msgs/CameraInfo", ROS1, "c9a58c1b0b154e0e6da7578cb991d215", "expected c9a58c1b0b154e0e6da7578cb991d214"},
		"hash":            {"sensor_msgs/msg/CameraInfo", CDR, hash, ""},
		"other hash":      {"sensor_msgs/msg/CameraInfo", CDR, "RIHS01_00", "expected RIHS01_"},
		"other type":      {"sensor_msgs/CameraInfo", ROS1, strings.Replace(info1, "float64[9] R", "float32[9] R", 1), "field 7 of the foreign definition is float32[9] R, expected float64[9] R"},
		"other name":      {"sensor_msgs/CameraInfo", CDR, strings.Replace(info2, "float64[9] k", "float64[9] K", 1), `"K" is no field name`},
		"inner field":     {"sensor_msgs/CameraInfo", CDR, strings.Replace(info2, "bool do_rectify", "uint8 do_rectify", 1), "sensor_msgs/CameraInfo.roi: field 5"},
		"missing field":   {"sensor_msgs/CameraInfo", CDR, strings.Replace(info2, "bool do_rectify", "", 1), "lacks field do_rectify"},
		"more fields":     {"sensor_msgs/CameraInfo", CDR, strings.Replace(info2, "bool do_rectify", "bool do_rectify\nuint8 mood", 1), "has field mood"},
		"missing message": {"sensor_msgs/CameraInfo", CDR, strings.Split(info2, "====")[0], "lacks std_msgs/Header"},
		"bounds":          {"rmw_dds_common/NodeEntitiesInfo", CDR, strings.ReplaceAll(must(Definition("rmw_dds_common/NodeEntitiesInfo", CDR)), "string<=256", "string"), ""},
		"char and uint8":  {"rmw_dds_common/Gid", CDR, "char[16] data", ""},
		"24 bytes":        {"rmw_dds_common/Gid", CDR, "char[24] data", "char[24] data, expected uint8[16] data"},
		"comments":        {"std_msgs/String", ROS1, "# a text\r\nstring data # it\r\n", ""},
		"unknown":         {"std_msgs/Nothing", ROS1, "string data", "not known"},
		"not a text":      {"std_msgs/String", ROS1, "\x00\x01", "foreign definition"},
		"empty":           {"std_msgs/String", ROS1, "", "lacks field data"},
	} {
		err := Compatible(tc.typ, tc.e, tc.foreign)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, expected %q", name, err, tc.want)
		}
	}
}

// Foreign definitions are text from outside.
func FuzzCompatible(f *testing.F) {
	f.Add("CameraInfo", must(Definition("sensor_msgs/CameraInfo", ROS1)))
	f.Add("Image", must(Definition("sensor_msgs/Image", CDR)))
	f.Add("Image", "9d771ac303652dfed570b8438c3b68e3")
	f.Fuzz(func(_ *testing.T, name, text string) {
		_ = Compatible("sensor_msgs/"+name, ROS1, text)
		_ = Compatible("sensor_msgs/msg/"+name, CDR, text)
	})
}
