package checkpoint

// Init says how an untrained tensor starts.
type Init struct {
	Kind  InitKind
	Value float64 // Constant: the value. Normal: the standard deviation about 0. Uniform: the bound, [-Value, Value).
}

// InitKind is a distribution.
type InitKind int

// The kinds of Init. The zero Init is a tensor of zeros.
const (
	Constant InitKind = iota
	Normal
	Uniform
)
