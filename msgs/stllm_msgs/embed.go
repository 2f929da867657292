// Package stllm_msgs carries the definitions of this folder, which is a ROS package as well, into the program.
package stllm_msgs //nolint:revive // the folder's name is the ROS package's

import "embed"

// Files holds msg/, srv/ and action/.
//
//go:embed msg/*.msg srv/*.srv action/*.action
var Files embed.FS
