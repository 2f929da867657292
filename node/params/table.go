package params

// table is the one list of parameters. A new one gets a field in [Parameters] and a row here; launch/stllm.yaml is then
// rendered again (go test ./node/params -run YAML says how).
var table = []Descriptor{
	{Name: "fixed_frame", Section: inputs, Kind: String, Default: "map", ReadOnly: true, field: func(p *Parameters) any { return &p.FixedFrame },
		Doc: "Frame that camera poses and the map are kept in. It should not move or jump: map rather than odom where there is a map."},
	{Name: "image_topic", Section: inputs, Kind: String, Default: "~image", ReadOnly: true, field: func(p *Parameters) any { return &p.ImageTopic },
		Doc: "Raw images; the compressed ones are expected at <image_topic>/compressed. Better remapped than changed here."},
	{Name: "image_transport", Section: inputs, Kind: String, Default: "auto", Values: []string{"auto", "raw", "compressed"}, ReadOnly: true, field: func(p *Parameters) any { return &p.ImageTransport },
		Doc: "Which of the two image topics is read. auto takes the one that delivers first."},
	{Name: "camera_info_topic", Section: inputs, Kind: String, Default: "", ReadOnly: true, field: func(p *Parameters) any { return &p.CameraInfoTopic },
		Doc: "Intrinsics. Empty: ~camera_info if that is remapped, otherwise camera_info beside the image topic."},
	{Name: "map_topic", Section: inputs, Kind: String, Default: "~map_points", ReadOnly: true, field: func(p *Parameters) any { return &p.MapTopic },
		Doc: "Point cloud of the whole scene, latched or repeated; another content replaces the map."},
	{Name: "depth_topic", Section: inputs, Kind: String, Default: "~depth", ReadOnly: true, field: func(p *Parameters) any { return &p.DepthTopic },
		Doc: "Depth images (16UC1 in mm, 32FC1 in m) registered to the image topic's camera, listened to only with a model whose config says patch_place depth. Compressed ones are expected at <depth_topic>/compressedDepth. Empty: none."},
	{Name: "depth_transport", Section: inputs, Kind: String, Default: "auto", Values: []string{"auto", "raw", "compressed"}, ReadOnly: true, field: func(p *Parameters) any { return &p.DepthTransport },
		Doc: "Which of the two depth topics is read. auto takes the one that delivers first."},
	{Name: "extrinsics_file", Section: inputs, Kind: String, Default: "", ReadOnly: true, field: func(p *Parameters) any { return &p.ExtrinsicsFile },
		Doc: "YAML file with fixed links between frames (calibration.ReadExtrinsics), published on /tf_static: for cameras whose place no other node knows."},
	{Name: "use_sim_time", Section: inputs, Kind: Bool, Default: false, ReadOnly: true, field: func(p *Parameters) any { return &p.UseSimTime },
		Doc: "Take the time from /clock. ROS 1 also reads /use_sim_time of the master."},

	{Name: "tf_timeout", Section: window, Unit: "s", Kind: Double, Default: 0.5, Min: 0, Max: 60, field: func(p *Parameters) any { return &p.TFTimeout },
		Doc: "How long a frame (or a map in another frame) waits for its transform and for the first camera_info. Then it is dropped and counted."},
	{Name: "tf_cache", Section: window, Unit: "s", Kind: Double, Default: 10.0, Min: 0.1, Max: 3600, ReadOnly: true, field: func(p *Parameters) any { return &p.TFCache },
		Doc: "How long transforms are kept, counted back from the newest of their frame."},
	{Name: "tf_queue", Section: window, Unit: "messages", Kind: Integer, Default: int64(10000), Min: 10, Max: 1e6, ReadOnly: true, field: func(p *Parameters) any { return &p.TFQueue },
		Doc: "Transforms that may wait to be taken in. When full the oldest message is dropped and counted."},
	{Name: "depth_tolerance", Section: window, Unit: "s", Kind: Double, Default: 0.03, Min: 0, Max: 1, field: func(p *Parameters) any { return &p.DepthTolerance },
		Doc: "By how much the stamps of an image and of its depth image may differ; the nearest is taken."},
	{Name: "depth_timeout", Section: window, Unit: "s", Kind: Double, Default: 0.2, Min: 0, Max: 60, field: func(p *Parameters) any { return &p.DepthTimeout },
		Doc: "How long a frame waits for its depth image, where some come. Then it enters the window without depth, which is counted; no frame is dropped for want of depth."},
	{Name: "min_frame_interval", Section: window, Unit: "s", Kind: Double, Default: 0.05, Min: 0, Max: 60, field: func(p *Parameters) any { return &p.MinFrameInterval },
		Doc: "Frames that follow the last one sooner are left out (too_frequent). Larger saves the cost of encoding."},
	{Name: "window_duration", Section: window, Unit: "s", Kind: Double, Default: 30.0, Min: 0.1, Max: 3600, field: func(p *Parameters) any { return &p.WindowDuration },
		Doc: "How far back a question sees."},
	{Name: "window_max_frames", Section: window, Unit: "frames", Kind: Integer, Default: int64(600), Min: 1, Max: 100000, field: func(p *Parameters) any { return &p.WindowMaxFrames },
		Doc: "Frames kept at most; the oldest go first."},
	{Name: "window_max_mb", Section: window, Unit: "MB", Kind: Integer, Default: int64(2048), Min: 1, Max: 1 << 20, field: func(p *Parameters) any { return &p.WindowMaxMB },
		Doc: "Memory of the kept frames' features at most (about 1.4 MB a frame at the published size); the oldest go first."},
	{Name: "frames", Section: window, Unit: "frames", Kind: Integer, Default: int64(0), Min: 0, Max: 1024, field: func(p *Parameters) any { return &p.Frames },
		Doc: "Frames shown to the model, spread evenly over the window. 0: what the model was trained with (32 as published)."},
	{Name: "image_queue", Section: window, Unit: "images", Kind: Integer, Default: int64(30), Min: 1, Max: 1000, field: func(p *Parameters) any { return &p.ImageQueue },
		Doc: "Images that may wait for transforms and for the encoder. When full the oldest is dropped (queue_full): a camera that is too fast costs frames, never latency."},
	{Name: "stale_camera_timeout", Section: window, Unit: "s", Kind: Double, Default: 5.0, Min: 0.1, Max: 3600, field: func(p *Parameters) any { return &p.StaleCameraTimeout },
		Doc: "A question is refused when the newest frame is older than this."},

	{Name: "map_max_points", Section: scene, Unit: "points", Kind: Integer, Default: int64(500000), Min: 100, Max: 50e6, field: func(p *Parameters) any { return &p.MapMaxPoints },
		Doc: "A larger map is thinned on a grid, never cut. The edge of the voxels that the model sees belongs to the model."},

	{Name: "question_queue", Section: questions, Unit: "questions", Kind: Integer, Default: int64(8), Min: 1, Max: 1000, field: func(p *Parameters) any { return &p.QuestionQueue },
		Doc: "Questions that may wait while one is answered, oldest first. More are refused at once."},
	{Name: "question_deadline", Section: questions, Unit: "s", Kind: Double, Default: 60.0, Min: 0, Max: 86400, field: func(p *Parameters) any { return &p.QuestionDeadline },
		Doc: "Time that a question has, waiting included, unless it brings its own. 0: none."},
	{Name: "max_question_tokens", Section: questions, Unit: "tokens", Kind: Integer, Default: int64(256), Min: 1, Max: 32768, field: func(p *Parameters) any { return &p.MaxQuestionTokens },
		Doc: "Longer questions are refused."},
	{Name: "max_question_bytes", Section: questions, Unit: "bytes", Kind: Integer, Default: int64(8192), Min: 1, Max: 1 << 20, field: func(p *Parameters) any { return &p.MaxQuestionBytes },
		Doc: "Longer questions are refused before they are split into tokens."},
	{Name: "action_queue", Section: questions, Unit: "goals", Kind: Integer, Default: int64(4), Min: 0, Max: 1000, ReadOnly: true, field: func(p *Parameters) any { return &p.ActionQueue },
		Doc: "Action goals that may wait while one runs. 0: a second goal is rejected."},
	{Name: "action_result_timeout", Section: questions, Unit: "s", Kind: Double, Default: 900.0, Min: 0, Max: 86400, ReadOnly: true, field: func(p *Parameters) any { return &p.ActionResultTimeout },
		Doc: "How long the result of an action is kept for a late asker."},

	{Name: "max_new_tokens", Section: decoding, Unit: "tokens", Kind: Integer, Default: int64(256), Min: 1, Max: 32768, field: func(p *Parameters) any { return &p.MaxNewTokens },
		Doc: "Length of an answer at most."},
	{Name: "do_sample", Section: decoding, Kind: Bool, Default: false, field: func(p *Parameters) any { return &p.DoSample },
		Doc: "false: the same question about the same window gives the same answer. true: temperature, top_p, top_k and seed apply."},
	{Name: "num_beams", Section: decoding, Unit: "beams", Kind: Integer, Default: int64(1), Min: 1, Max: 64, field: func(p *Parameters) any { return &p.NumBeams },
		Doc: "Beam search with this many beams (5 as published); an answer then streams only at its end."},
	{Name: "temperature", Section: decoding, Kind: Double, Default: 1.0, Min: 0, Max: 100, field: func(p *Parameters) any { return &p.Temperature },
		Doc: "Of sampling; below 1 is more certain (0.8 as published)."},
	{Name: "top_p", Section: decoding, Kind: Double, Default: 1.0, Min: 0, Max: 1, field: func(p *Parameters) any { return &p.TopP },
		Doc: "Sampling from the likeliest tokens that make up this share. 1: all."},
	{Name: "top_k", Section: decoding, Unit: "tokens", Kind: Integer, Default: int64(0), Min: 0, Max: 1e6, field: func(p *Parameters) any { return &p.TopK },
		Doc: "Sampling from this many likeliest tokens. 0: all."},
	{Name: "repetition_penalty", Section: decoding, Kind: Double, Default: 1.0, Min: 0.01, Max: 100, field: func(p *Parameters) any { return &p.RepetitionPenalty },
		Doc: "Above 1 makes tokens that were said before less likely."},
	{Name: "length_penalty", Section: decoding, Kind: Double, Default: 1.0, Min: -100, Max: 100, field: func(p *Parameters) any { return &p.LengthPenalty },
		Doc: "Of beam search; above 0 favours longer answers."},
	{Name: "seed", Section: decoding, Kind: Integer, Default: int64(0), Min: 0, Max: 1 << 53, field: func(p *Parameters) any { return &p.Seed },
		Doc: "Of sampling."},

	{Name: "evidence", Section: outputs, Kind: Bool, Default: false, field: func(p *Parameters) any { return &p.Evidence },
		Doc: "Answers say which frames and places of the map they looked at. Costs time only when on."},
	{Name: "stream_rate", Section: outputs, Unit: "Hz", Kind: Double, Default: 20.0, Min: 0, Max: 1000, field: func(p *Parameters) any { return &p.StreamRate },
		Doc: "Chunks of an answer published on answer_stream at most; text in between is put together. 0: every piece."},
	{Name: "diagnostics_rate", Section: outputs, Unit: "Hz", Kind: Double, Default: 1.0, Min: 0.01, Max: 100, ReadOnly: true, field: func(p *Parameters) any { return &p.DiagnosticsRate },
		Doc: "Of /diagnostics."},
	{Name: "markers_rate", Section: outputs, Unit: "Hz", Kind: Double, Default: 1.0, Min: 0, Max: 100, ReadOnly: true, field: func(p *Parameters) any { return &p.MarkersRate },
		Doc: "Of markers and window_path while frames come. 0: only with answers."},

	{Name: "model", Section: process, Kind: String, Default: "nano", ReadOnly: true, field: func(p *Parameters) any { return &p.Model },
		Doc: "Model folder (Hugging Face layout), or the name of the built-in one."},
	{Name: "device", Section: process, Kind: String, Default: "auto", Values: []string{"auto", "cpu", "cuda"}, ReadOnly: true, field: func(p *Parameters) any { return &p.Device },
		Doc: "Where the graph runs. auto: the CPU; CUDA only where it is asked for."},
	{Name: "dtype", Section: process, Kind: String, Default: "auto", Values: []string{"auto", "fp32", "bf16", "fp16", "int4"}, ReadOnly: true, field: func(p *Parameters) any { return &p.DType },
		Doc: "Number format of the weights. auto: fp32 on the CPU, bf16 on CUDA. bf16 on a CPU (with AVX-512 BF16): pictures, aligner and prompt 1.5 to 1.7 times as fast."},
	{Name: "threads", Section: process, Unit: "threads", Kind: Integer, Default: int64(0), Min: 0, Max: 1024, ReadOnly: true, field: func(p *Parameters) any { return &p.Threads },
		Doc: "Threads of the CPU that the graph uses. 0: all cores."},
	{Name: "autostart", Section: process, Kind: Bool, Default: true, ReadOnly: true, field: func(p *Parameters) any { return &p.Autostart },
		Doc: "Load the model and start at once. false (ROS 2): wait for the lifecycle services configure and activate."},

	reliability("qos_image_reliability", "best_effort", "image and depth topics", func(p *Parameters) any { return &p.QoSImageReliability }),
	depth("qos_image_depth", 5, "image and depth topics", func(p *Parameters) any { return &p.QoSImageDepth }),
	reliability("qos_camera_info_reliability", "best_effort", "camera_info", func(p *Parameters) any { return &p.QoSCameraInfoReliability }),
	depth("qos_camera_info_depth", 5, "camera_info", func(p *Parameters) any { return &p.QoSCameraInfoDepth }),
	reliability("qos_tf_reliability", "reliable", "/tf", func(p *Parameters) any { return &p.QoSTFReliability }),
	depth("qos_tf_depth", 100, "/tf", func(p *Parameters) any { return &p.QoSTFDepth }),
	durability("qos_tf_static_durability", "transient_local", "/tf_static", func(p *Parameters) any { return &p.QoSTFStaticDurability }),
	depth("qos_tf_static_depth", 100, "/tf_static", func(p *Parameters) any { return &p.QoSTFStaticDepth }),
	reliability("qos_map_reliability", "reliable", "map_points", func(p *Parameters) any { return &p.QoSMapReliability }),
	durability("qos_map_durability", "transient_local", "map_points", func(p *Parameters) any { return &p.QoSMapDurability }),
	reliability("qos_question_reliability", "reliable", "question and question_text", func(p *Parameters) any { return &p.QoSQuestionReliability }),
	depth("qos_question_depth", 10, "question and question_text", func(p *Parameters) any { return &p.QoSQuestionDepth }),
	durability("qos_answer_durability", "volatile", "answer, answer_text and answer_stream", func(p *Parameters) any { return &p.QoSAnswerDurability }),
	depth("qos_answer_depth", 100, "answer, answer_text and answer_stream", func(p *Parameters) any { return &p.QoSAnswerDepth }),
	durability("qos_markers_durability", "transient_local", "markers", func(p *Parameters) any { return &p.QoSMarkersDurability }),
	durability("qos_window_path_durability", "transient_local", "window_path", func(p *Parameters) any { return &p.QoSWindowPathDurability }),
}

// The sections.
const (
	inputs    = "Inputs and frames of reference"
	window    = "From images to the window"
	scene     = "Map"
	questions = "Questions"
	decoding  = "Text generation"
	outputs   = "Outputs"
	process   = "Model and process"
	quality   = "Qualities of service (ROS 2 names; ROS 1 uses depth, and transient_local as latched)"
)

func reliability(name, value, what string, field func(*Parameters) any) Descriptor {
	return Descriptor{Name: name, Section: quality, Kind: String, Default: value, Values: []string{"reliable", "best_effort"}, ReadOnly: true, field: field,
		Doc: "Reliability of " + what + "."}
}

func durability(name, value, what string, field func(*Parameters) any) Descriptor {
	return Descriptor{Name: name, Section: quality, Kind: String, Default: value, Values: []string{"volatile", "transient_local"}, ReadOnly: true, field: field,
		Doc: "Durability of " + what + "."}
}

func depth(name string, value int64, what string, field func(*Parameters) any) Descriptor {
	return Descriptor{Name: name, Section: quality, Unit: "messages", Kind: Integer, Default: value, Min: 1, Max: 10000, ReadOnly: true, field: field,
		Doc: "Queue depth of " + what + "."}
}
