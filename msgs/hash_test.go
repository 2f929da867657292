package msgs

import (
	"os"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs/idl"
)

// Type hashes that others have published: the ROS 2 documentation of rmw_zenoh, zenoh-plugin-ros2dds, ros-z, constants in
// public drivers and what `ros2 topic info -v` of Iron and Jazzy printed in public issues.
func TestTypeHash(t *testing.T) {
	for typ, want := range map[string]string{
		"std_msgs/msg/String":                        "df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18",
		"std_msgs/msg/Empty":                         "20b625256f32d5dbc0d04fee44f43c41e51c70d3502f84b4a08e7a9c26a96312",
		"std_msgs/msg/Header":                        "f49fb3ae2cf070f793645ff749683ac6b06203e41c891e17701b1cb597ce6a01",
		"sensor_msgs/msg/Image":                      "d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47",
		"sensor_msgs/msg/PointCloud2":                "9198cabf7da3796ae6fe19c4cb3bdd3525492988c70522628af5daa124bae2b5",
		"sensor_msgs/msg/CameraInfo":                 "b3dfd68ff46c9d56c80fd3bd4ed22c7a4ddce8c8348f2f59c299e73118e7e275",
		"tf2_msgs/msg/TFMessage":                     "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
		"nav_msgs/msg/Path":                          "1957a5bb3cee5da65c4e52e52b65a93df227efce4c20f8458b36e73066ca334b",
		"visualization_msgs/msg/MarkerArray":         "86cb8800b6fb05b5eff1abd7a56f62a5641d3ae9a1c29e78e67e704f1d067dcf",
		"diagnostic_msgs/msg/DiagnosticArray":        "5a8a36efb05fb25070fa0fb3810290c0e6cd4862b54a8fb975a1ee8dc55a333e",
		"unique_identifier_msgs/msg/UUID":            "1b8e8aca958cbea28fe6ef60bf6c19b683c97a9ef60bb34752067d0f2f7ab437",
		"lifecycle_msgs/msg/State":                   "dd2d02b82f3ebc858e53c431b1e6e91f3ffc71436fc81d0715214ac6ee2107a0",
		"lifecycle_msgs/msg/Transition":              "c65d7b31ea134cba4f54fc867b817979be799f7452035cd35fac9b7421fb3424",
		"lifecycle_msgs/msg/TransitionEvent":         "d5f8873a2f0146498f812d7885c7327ce27e463d36811d8792f35ee38c0d6c38", // up to Kilted; later ones have a Time in it
		"lifecycle_msgs/srv/ChangeState":             "356fe34f0475a43acf54542013af4167b0e729f77ea22ffb045c6ad8e20668e5",
		"lifecycle_msgs/srv/GetState":                "800a0a5aae599782b02932de0caf563f6dc4e7e94b794eadde075ba2cbef9795",
		"lifecycle_msgs/srv/GetAvailableStates":      "00a07d79d2207d71e81a8cbc1880e5d924cc16d4688ea8e8e06e443dc8f8aa1d",
		"lifecycle_msgs/srv/GetAvailableTransitions": "59b7ecefce0982a8a844b9f2c4f14764c1c4543cc55e72924e2aa4adad83e9bc",
		"rosgraph_msgs/msg/Clock":                    "692f7a66e93a3c83e71765d033b60349ba68023a8c689a79e48078bcb5c58564",
		"geometry_msgs/msg/PoseStamped":              "10f3786d7d40fd2b54367835614bff85d4ad3b5dab62bf8bca0cc232d73b4cd8",
		"geometry_msgs/msg/Quaternion":               "8a765f66778c8ff7c8ab94afcc590a2ed5325a1d9a076ffff38fbce36f458684",
		"rmw_dds_common/msg/ParticipantEntitiesInfo": "91a0593bacdcc50ea9bdcf849a938b128412cc1ea821245c663bcd26f83c295e",
		"service_msgs/msg/ServiceEventInfo":          "41bcbbe07a75c9b52bc96bfd5c24d7f0fc0a08c0cb7921b3373c5732345a6f45",
		"rcl_interfaces/msg/Log":                     "e28ce254ca8abc06abf92773b74602cdbf116ed34fbaf294fb9f81da9f318eac",
		"rcl_interfaces/msg/ParameterEvent":          "043e627780fcad87a22d225bc2a037361dba713fca6a6b9f4b869a5aa0393204",
		"action_msgs/msg/GoalStatusArray":            "6c1684b00f177d37438febe6e709fc4e2b0d4248dca4854946f9ed8b30cda83e",
		"action_msgs/srv/CancelGoal":                 "573d8b0a534451d7bc2ac8c5ffde8ac14b8593b7001175d0cd6516dcbeb8689a",
		"std_srvs/srv/Trigger":                       "eeff2cd6fa5ad9d27cdf4dec64818317839b62f212a91e6b5304b634b2062c5f",
		"std_srvs/srv/Trigger_Request":               "d010825374ce8918e72bfd826c82603e60f45419e932ea976f807b74a863a199",
		"std_srvs/srv/Trigger_Event":                 "ec4a1d26b0575e61906890342aba9523a2360e9845857c5590fa6e23bc39e1c2",
		"std_srvs/srv/Empty":                         "5888399dedec5ccc85ea6451949fd2c9f97bfdf963f9a588821639fcd31b5d19",
		"std_srvs/srv/SetBool":                       "abe9e4bb6b41b40e6789712c00ec8871923e089af3f667a79992a428cff2da0a",
		"std_srvs/srv/SetBool_Event":                 "3c4c20015afb4303eafd347b1d6a786f171a89c814726961a9593ef10df878cf",
		"rcl_interfaces/srv/GetParameters":           "bf9803d5c74cf989a5de3e0c2e99444599a627c7ff75f97b8c05b01003675cbc",
		"rcl_interfaces/srv/GetParameterTypes":       "da199c878688b3e530bdfe3ca8f74cb9fa0c303101e980a9e8f260e25e1c80ca",
		"rcl_interfaces/srv/SetParameters":           "56eed9a67e169f9cb6c1f987bc88f868c14a8fc9f743a263bc734c154015d7e0",
		"rcl_interfaces/srv/SetParametersAtomically": "0e192ef259c07fc3c07a13191d27002222e65e00ccec653ca05e856f79285fcd",
		"rcl_interfaces/srv/ListParameters":          "3e6062bfbb27bfb8730d4cef2558221f51a11646d78e7bb30a1e83afac3aad9d",
		"rcl_interfaces/srv/DescribeParameters":      "845b484d71eb0673dae682f2e3ba3c4851a65a3dcfb97bddd82c5b57e91e4cff",
		// From the generated C of a Jazzy build (rtabmap_msgs' node__description.c in the repository Zuhaib-Saadat/fyp-ros2).
		"builtin_interfaces/msg/Time":          "b106235e25a4c5ed35098aa0a61a3ee9c9b18d197f398b0e4206cea9acf9c197",
		"geometry_msgs/msg/Point":              "6963084842a9b04494d6b2941d11444708d892da2f4b09843b9c43f42a7f6881",
		"geometry_msgs/msg/Pose":               "d501954e9476cea2996984e812054b68026ae0bfae789d9a10b23daf35cc90fa",
		"geometry_msgs/msg/PoseWithCovariance": "9a7c0fd234b7f45c6098745ecccd773ca1085670e64107135397aee31c02e1bb",
		"geometry_msgs/msg/Transform":          "beb83fbe698636351461f6f35d1abb20010c43d55374d81bd041f1ba2581fddc",
		"geometry_msgs/msg/Vector3":            "cc12fe83e4c02719f1ce8070bfd14aecd40f75a96696a67a2a1f37f7dbb0765d",
		"sensor_msgs/msg/PointField":           "5c6a4750728c2bcfbbf7037225b20b02d4429634732146b742dee1726637ef01",
		"sensor_msgs/msg/RegionOfInterest":     "ad16bcba5f9131dcdba6fbded19f726f5440e3c513b4fb586dd3027eeed8abb1",
		// Looked up by value: constants in public Zenoh clients, drivers and message packages for several languages.
		"sensor_msgs/msg/CompressedImage":        "15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a",
		"geometry_msgs/msg/TransformStamped":     "0a241f87d04668d94099cbb5ba11691d5ad32c2f29682e4eb5653424bd275206",
		"nav_msgs/msg/Odometry":                  "3cc97dc7fb7502f8714462c526d369e35b603cfc34d946e3f2eda2766dfec6e0",
		"geometry_msgs/msg/Twist":                "9c45bf16fe0983d80e3cfe750d6835843d265a9a6c46bd2e609fcddde6fb8d2a",
		"geometry_msgs/msg/TwistWithCovariance":  "49f574f033f095d8b6cd1beaca5ca7925e296e84af1716d16c89d38b059c8c18",
		"geometry_msgs/msg/Point32":              "2fc4db7cae16a4582c79a56b66173a8d48d52c7dc520ddc55a0d4bcf2a4bfdbc",
		"std_msgs/msg/Bool":                      "feb91e995ff9ebd09c0cb3d2aed18b11077585839fb5db80193b62d74528f6c9",
		"std_msgs/msg/Int32":                     "b6578ded3c58c626cfe8d1a6fb6e04f706f97e9f03d2727c9ff4e74b1cef0deb",
		"std_msgs/msg/Int64":                     "8cd1048c2f186b6bd9a92472dc1ce51723c0833a221e2b7aecfff111774f4b49",
		"std_msgs/msg/Float32":                   "7170d3d8f841f7be3172ce5f4f59f3a4d7f63b0447e8b33327601ad64d83d6e2",
		"std_msgs/msg/Float64":                   "705ba9c3d1a09df43737eb67095534de36fd426c0587779bda2bc51fe790182a",
		"std_msgs/msg/ColorRGBA":                 "77a7a5b9ae477306097665106e0413ba74440245b1f3d0c6d6405fe5c7813fe8",
		"builtin_interfaces/msg/Duration":        "e8d009f659816f758b75334ee1a9ca5b5c0b859843261f14c7f937349599d93b",
		"visualization_msgs/msg/Marker":          "45b13ccf791f225962bf74e746f9644518855d783a6f42ba0cc14fde2b4f3ce0",
		"action_msgs/msg/GoalInfo":               "6398fe763154554353930716b225947f93b672f0fb2e49fdd01bb7a7e37933e9",
		"diagnostic_msgs/msg/DiagnosticStatus":   "b0e3e692ea2d54a8af2f4ef1930e81556a2db55216b771f8a7d2724ed47bf0e4",
		"rcl_interfaces/msg/ParameterValue":      "115fc089a387e23c7ecd3525c9189c379109119d6ab82e8dfbde0fdf6a7f9b68",
		"rcl_interfaces/msg/SetParametersResult": "cfcc0fb0371ee5159b403960ef4300f8f9d2f1fd6117c8666b7f9654d528a9b1",
	} {
		if got, err := TypeHash(typ); err != nil || got != "RIHS01_"+want {
			t.Errorf("%s: %s (%v), expected RIHS01_%s", typ, got, err, want)
		}
	}
}

// Every type has the hash that ROS 2's own generator gives to its published definition, and stllm_msgs the one that a colcon
// build would. testdata/golden.py makes the file.
func TestTypeHashAsRosidl(t *testing.T) {
	text, err := os.ReadFile("testdata/rosidl.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if got, err := TypeHash(f[0]); err != nil || got != f[1] {
			t.Errorf("%s: %s (%v), rosidl has %s", f[0], got, err, f[1])
		}
		seen[f[0]] = true
	}
	set := Definitions(CDR)
	for _, key := range set.Keys() {
		if spec, _ := set.Spec(key); !seen[spec.FullName()] {
			t.Errorf("no golden hash of %s", spec.FullName())
		}
	}
}

// What rosidl derives from services and actions, on the types that everybody has published: example_interfaces and
// tf2_msgs/action/LookupTransform.
func TestTypeHashOfActions(t *testing.T) {
	set := idl.NewSet(idl.ROS2)
	for _, d := range [][4]string{
		{"builtin_interfaces", "Time", "msg", "int32 sec\nuint32 nanosec"},
		{"builtin_interfaces", "Duration", "msg", "int32 sec\nuint32 nanosec"},
		{"unique_identifier_msgs", "UUID", "msg", "uint8[16] uuid"},
		{"service_msgs", "ServiceEventInfo", "msg", "uint8 event_type\nbuiltin_interfaces/Time stamp\nchar[16] client_gid\nint64 sequence_number"},
		{"std_msgs", "Header", "msg", "builtin_interfaces/Time stamp\nstring frame_id"},
		{"geometry_msgs", "Vector3", "msg", "float64 x\nfloat64 y\nfloat64 z"},
		{"geometry_msgs", "Quaternion", "msg", "float64 x 0\nfloat64 y 0\nfloat64 z 0\nfloat64 w 1"},
		{"geometry_msgs", "Transform", "msg", "Vector3 translation\nQuaternion rotation"},
		{"geometry_msgs", "TransformStamped", "msg", "std_msgs/Header header\nstring child_frame_id\nTransform transform"},
		{"tf2_msgs", "TF2Error", "msg", "uint8 NO_ERROR=0\nuint8 error\nstring error_string"},
		{"tf2_msgs", "LookupTransform", "action", "string target_frame\nstring source_frame\nbuiltin_interfaces/Time source_time\nbuiltin_interfaces/Duration timeout\nbuiltin_interfaces/Time target_time\nstring fixed_frame\nbool advanced\n---\ngeometry_msgs/TransformStamped transform\ntf2_msgs/TF2Error error\n---\n"},
		{"example_interfaces", "AddTwoInts", "srv", "int64 a\nint64 b\n---\nint64 sum"},
		{"example_interfaces", "Fibonacci", "action", "int32 order\n---\nint32[] sequence\n---\nint32[] sequence"},
	} {
		if err := set.Add(d[0], d[1], d[2], d[3]); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Check(); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"example_interfaces/AddTwoInts":                "e118de6bf5eeb66a2491b5bda11202e7b68f198d6f67922cf30364858239c81a",
		"example_interfaces/Fibonacci_Goal":            "226cb437e4355dcd3e914f930382a3b0cc1da81545bd319ed554e95a03255f51",
		"example_interfaces/Fibonacci_SendGoal":        "d1a57fb2a4afe8c21e34fb10db206f16ce6729b28531141472df92277c55b557",
		"example_interfaces/Fibonacci_GetResult":       "1b0de0d5d29dc955d92f546706568428632771db13ec84c15ec1c1a59f424a57",
		"example_interfaces/Fibonacci_FeedbackMessage": "c1de71afd52e49a89c53d8262366884185bc0a02f78ce051c4e46b0a7fe59bb2",
		"tf2_msgs/LookupTransform_SendGoal":            "4646ff5706c86b04d0a1098d329951a9731a7517e16702905de6073cc72c8530",
		"tf2_msgs/LookupTransform_GetResult":           "3cd1715751899e3167b5aec3e4ac194f7da9e8493a77285f9f6a4c914f5e8b24",
		"tf2_msgs/LookupTransform_FeedbackMessage":     "10cb89922dcb103e95c185d43e8a5efa3d38db996f733151a2f3e2ac133f4839",
	} {
		if got, err := set.TypeHash(key); err != nil || got != "RIHS01_"+want {
			t.Errorf("%s: %s (%v), expected RIHS01_%s", key, got, err, want)
		}
	}
	want := "RIHS01_0b8adf6bc0b5958879e3265b41a457e03558fe523890a81252c70eba97a82c5d"
	if got, err := set.ActionHash("tf2_msgs/LookupTransform"); err != nil || got != want {
		t.Errorf("action LookupTransform: %s (%v), expected %s", got, err, want)
	}
}

// A service and an action of the same name are two types.
func TestTypeHashOfServiceAndAction(t *testing.T) {
	hashes := map[string]string{}
	for _, typ := range []string{"stllm_msgs/srv/Ask", "stllm_msgs/action/Ask", "stllm_msgs/srv/PlanAction", "stllm_msgs/action/PlanAction"} {
		h, err := TypeHash(typ)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := hashes[h]; ok {
			t.Errorf("%s and %s have the same hash", typ, other)
		}
		hashes[h] = typ
	}
	short, _ := TypeHash("stllm_msgs/Ask")
	dds, _ := TypeHash("stllm_msgs::action::dds_::Ask_")
	if hashes[short] != "stllm_msgs/srv/Ask" || hashes[dds] != "stllm_msgs/action/Ask" {
		t.Errorf("the short name means %s, the DDS name of the action %s", hashes[short], hashes[dds])
	}
	if h, err := TypeHash("stllm_msgs/action/Nothing"); err == nil {
		t.Errorf("an unknown action has hash %s", h)
	}
}
