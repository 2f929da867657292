package graph

// broadcast is numpy's rule. A named dimension fits itself and 1.
func broadcast(a, b Shape) (Shape, bool) {
	if len(a) < len(b) {
		a, b = b, a
	}
	out := append(Shape(nil), a...)
	off := len(a) - len(b)
	for i, d := range b {
		switch c := a[off+i]; {
		case c == d, d == D(1):
		case c == D(1):
			out[off+i] = d
		default:
			return nil, false
		}
	}
	return out, true
}

func (g *Graph) binary(op string, a, b *Value, out DType) *Value {
	if g.err != nil {
		return g.bad()
	}
	if a.DType != b.DType {
		return g.failOp(op, []*Value{a, b}, "the element types differ")
	}
	s, ok := broadcast(a.Shape, b.Shape)
	if !ok {
		return g.failOp(op, []*Value{a, b}, "the shapes do not broadcast")
	}
	if out == 0 {
		out = a.DType
	}
	return g.one(op, "", []*Value{a, b}, nil, out, s)
}

// Elementwise arithmetic with broadcasting.
func (g *Graph) Add(a, b *Value) *Value     { return g.binary("Add", a, b, 0) }
func (g *Graph) Sub(a, b *Value) *Value     { return g.binary("Sub", a, b, 0) }
func (g *Graph) Mul(a, b *Value) *Value     { return g.binary("Mul", a, b, 0) }
func (g *Graph) Div(a, b *Value) *Value     { return g.binary("Div", a, b, 0) }
func (g *Graph) Pow(a, b *Value) *Value     { return g.binary("Pow", a, b, 0) }
func (g *Graph) Max(a, b *Value) *Value     { return g.binary("Max", a, b, 0) }
func (g *Graph) Min(a, b *Value) *Value     { return g.binary("Min", a, b, 0) }
func (g *Graph) Greater(a, b *Value) *Value { return g.binary("Greater", a, b, Bool) }
func (g *Graph) Less(a, b *Value) *Value    { return g.binary("Less", a, b, Bool) }
func (g *Graph) Same(a, b *Value) *Value    { return g.binary("Equal", a, b, Bool) }

// Scale multiplies by a number.
func (g *Graph) Scale(a *Value, by float32) *Value { return g.Mul(a, g.Scalar(a.DType, by)) }

// Shift adds a number.
func (g *Graph) Shift(a *Value, by float32) *Value { return g.Add(a, g.Scalar(a.DType, by)) }

func (g *Graph) unary(op, domain string, a *Value, attrs ...Attr) *Value {
	if g.err != nil {
		return g.bad()
	}
	if !a.DType.Float() {
		return g.failOp(op, []*Value{a}, "a float was expected")
	}
	return g.one(op, domain, []*Value{a}, attrs, a.DType, a.Shape)
}

// Elementwise functions.
func (g *Graph) Neg(a *Value) *Value        { return g.unary("Neg", "", a) }
func (g *Graph) Abs(a *Value) *Value        { return g.unary("Abs", "", a) }
func (g *Graph) Exp(a *Value) *Value        { return g.unary("Exp", "", a) }
func (g *Graph) Log(a *Value) *Value        { return g.unary("Log", "", a) }
func (g *Graph) Sqrt(a *Value) *Value       { return g.unary("Sqrt", "", a) }
func (g *Graph) Reciprocal(a *Value) *Value { return g.unary("Reciprocal", "", a) }
func (g *Graph) Sin(a *Value) *Value        { return g.unary("Sin", "", a) }
func (g *Graph) Cos(a *Value) *Value        { return g.unary("Cos", "", a) }
func (g *Graph) Tanh(a *Value) *Value       { return g.unary("Tanh", "", a) }
func (g *Graph) Erf(a *Value) *Value        { return g.unary("Erf", "", a) }
func (g *Graph) Sigmoid(a *Value) *Value    { return g.unary("Sigmoid", "", a) }
func (g *Graph) Relu(a *Value) *Value       { return g.unary("Relu", "", a) }
func (g *Graph) Sign(a *Value) *Value       { return g.unary("Sign", "", a) }
func (g *Graph) Identity(a *Value) *Value {
	return g.one("Identity", "", []*Value{a}, nil, a.DType, a.Shape)
}

// Gelu is x·Φ(x) by the error function; GeluTanh is its tanh form (gelu_pytorch_tanh). In half precision they are ONNX Runtime's
// own operators, which CUDA has for bfloat16 too.
func (g *Graph) Gelu(a *Value) *Value {
	if a.DType != Float32 {
		return g.unary("Gelu", Microsoft, a)
	}
	return g.unary("Gelu", "", a, Attr{"approximate", "none"})
}
func (g *Graph) GeluTanh(a *Value) *Value {
	if a.DType != Float32 {
		return g.unary("FastGelu", Microsoft, a)
	}
	return g.unary("Gelu", "", a, Attr{"approximate", "tanh"})
}

// Silu is x·σ(x).
func (g *Graph) Silu(a *Value) *Value { return g.Mul(a, g.Sigmoid(a)) }

// Activation finds a function by its Hugging Face name.
func (g *Graph) Activation(name string, a *Value) *Value {
	switch name {
	case "gelu":
		return g.Gelu(a)
	case "gelu_pytorch_tanh", "gelu_new":
		return g.GeluTanh(a)
	case "silu", "swish":
		return g.Silu(a)
	case "relu":
		return g.Relu(a)
	}
	return g.Failf("activation %q is not known; known are gelu, gelu_pytorch_tanh, silu, relu", name)
}

// Cast converts the element type.
func (g *Graph) Cast(a *Value, t DType) *Value {
	if g.err != nil {
		return g.bad()
	}
	if a.DType == t {
		return a
	}
	return g.one("Cast", "", []*Value{a}, []Attr{{"to", int64(t)}}, t, a.Shape)
}

// Where takes from a where the condition holds, else from b.
func (g *Graph) Where(cond, a, b *Value) *Value {
	if g.err != nil {
		return g.bad()
	}
	in := []*Value{cond, a, b}
	if cond.DType != Bool || a.DType != b.DType {
		return g.failOp("Where", in, "expected bool and two of one type")
	}
	s, ok := broadcast(a.Shape, b.Shape)
	if ok {
		s, ok = broadcast(s, cond.Shape)
	}
	if !ok {
		return g.failOp("Where", in, "the shapes do not broadcast")
	}
	return g.one("Where", "", in, nil, a.DType, s)
}
