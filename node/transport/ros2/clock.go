package ros2

import "github.com/stllm/stllm/node/transport"

// clockQoS is rclcpp::ClockQoS but for its depth of 1, so that no jump is missed when several messages come at once.
var clockQoS = transport.QoS{Reliability: transport.BestEffort, Durability: transport.Volatile, Depth: 10}
