package params

import "github.com/stllm/stllm/node/transport"

// QoSImage is that of both image topics and of both depth topics.
func (p *Parameters) QoSImage() transport.QoS {
	return transport.QoS{Reliability: transport.Reliability(p.QoSImageReliability), Durability: transport.Volatile, Depth: int(p.QoSImageDepth)}
}

// QoSCameraInfo is that of camera_info.
func (p *Parameters) QoSCameraInfo() transport.QoS {
	return transport.QoS{Reliability: transport.Reliability(p.QoSCameraInfoReliability), Durability: transport.Volatile, Depth: int(p.QoSCameraInfoDepth)}
}

// QoSTF is that of /tf.
func (p *Parameters) QoSTF() transport.QoS {
	return transport.QoS{Reliability: transport.Reliability(p.QoSTFReliability), Durability: transport.Volatile, Depth: int(p.QoSTFDepth)}
}

// QoSTFStatic is that of /tf_static.
func (p *Parameters) QoSTFStatic() transport.QoS {
	return transport.QoS{Reliability: transport.Reliable, Durability: transport.Durability(p.QoSTFStaticDurability), Depth: int(p.QoSTFStaticDepth)}
}

// QoSMap is that of map_points.
func (p *Parameters) QoSMap() transport.QoS {
	return transport.QoS{Reliability: transport.Reliability(p.QoSMapReliability), Durability: transport.Durability(p.QoSMapDurability), Depth: 1}
}

// QoSQuestion is that of question and question_text.
func (p *Parameters) QoSQuestion() transport.QoS {
	return transport.QoS{Reliability: transport.Reliability(p.QoSQuestionReliability), Durability: transport.Volatile, Depth: int(p.QoSQuestionDepth)}
}

// QoSAnswer is that of answer, answer_text and answer_stream.
func (p *Parameters) QoSAnswer() transport.QoS {
	return transport.QoS{Reliability: transport.Reliable, Durability: transport.Durability(p.QoSAnswerDurability), Depth: int(p.QoSAnswerDepth)}
}

// QoSMarkers is that of markers.
func (p *Parameters) QoSMarkers() transport.QoS {
	return transport.QoS{Reliability: transport.Reliable, Durability: transport.Durability(p.QoSMarkersDurability), Depth: 1}
}

// QoSPath is that of window_path.
func (p *Parameters) QoSPath() transport.QoS {
	return transport.QoS{Reliability: transport.Reliable, Durability: transport.Durability(p.QoSWindowPathDurability), Depth: 1}
}
