// Package bags reads and writes recordings of ROS messages: ROS 1 .bag files,
// ROS 2 .mcap files and .db3 databases, alone or in a folder with its
// metadata.yaml.
//
//	r, err := bags.Open("kitchen.bag")
//	…
//	defer r.Close()
//	it := r.Messages(bags.Filter{Topics: []string{"/tf"}})
//	defer it.Close()
//	for {
//		m, err := it.Next()
//		if err == io.EOF {
//			break
//		}
//		…
//	}
//
// Messages come in order of their log time. Memory stays bounded whatever the
// bag's size, see [Open]. Damaged bags are read as far as they go; what is lost
// is listed by Reader.Warnings.
package bags

import "github.com/stllm/stllm/bags/internal/record"

type (
	// Connection is one stream of messages: a topic and its type.
	Connection = record.Connection
	// Message is one recorded message.
	Message = record.Message
	// Filter selects messages by topic and time.
	Filter = record.Filter
	// Iterator gives messages in order of log time.
	Iterator = record.Iterator
	// Reader gives the contents of a bag.
	Reader = record.Reader
	// Info describes a bag.
	Info = record.Info
	// File is one file of a bag.
	File = record.File
	// Warning tells of a damaged part of a bag.
	Warning = record.Warning
	// Writer writes a bag.
	Writer = record.Writer
	// WriteOptions are how a bag is laid out.
	WriteOptions = record.WriteOptions
)
