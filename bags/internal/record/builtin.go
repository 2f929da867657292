package record

import "github.com/stllm/stllm/msgs"

// FillDefinition gives a connection whose bag carries no definition the
// built-in one, if there is one for its type.
func FillDefinition(c *Connection) {
	if c.Definition != "" || c.Encoding != ROS1 && c.Encoding != CDR {
		return
	}
	text, err := msgs.Definition(c.Type, c.Encoding)
	if err != nil {
		return
	}
	c.Definition, c.BuiltIn = text, true
	c.DefinitionFormat = "ros2msg"
	if c.Encoding == ROS1 {
		c.DefinitionFormat = "ros1msg"
	}
}
