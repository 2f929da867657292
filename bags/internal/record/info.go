package record

// Sum fills in an Info's message count and times from its connections.
func Sum(info *Info) {
	info.Messages, info.First, info.Last = 0, 0, 0
	for _, c := range info.Connections {
		if c.Count == 0 {
			continue
		}
		if info.Messages == 0 {
			info.First, info.Last = c.First, c.Last
		}
		info.First, info.Last = min(info.First, c.First), max(info.Last, c.Last)
		info.Messages += c.Count
	}
}

// Wanted tells by connection ID which ones the filter selects; nil means all.
func Wanted(conns []*Connection, f Filter) []bool {
	if len(f.Topics) == 0 {
		return nil
	}
	wanted := make([]bool, len(conns))
	for i, c := range conns {
		wanted[i] = f.Wants(c.Topic)
	}
	return wanted
}
