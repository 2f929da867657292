package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// Print writes the summary as text.
func (s *Summary) Print(w io.Writer) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "path\t%s\n", clean(strings.Join(s.Paths, ", ")))
	fmt.Fprintf(t, "format\t%s\n", clean(s.Format+named(" of ROS ", s.Distro)))
	fmt.Fprintf(t, "size\t%s in %d %s\n", size(s.Bytes), s.Files, plural(s.Files, "file", "files"))
	fmt.Fprintf(t, "start\t%s (%s)\n", stamp(s.First), seconds(s.First))
	fmt.Fprintf(t, "end\t%s (%s)\n", stamp(s.Last), seconds(s.Last))
	fmt.Fprintf(t, "duration\t%.3f s\n", float64(s.Last-s.First)/1e9)
	fmt.Fprintf(t, "messages\t%d\n", s.Messages)
	var parts []string
	for _, name := range s.compressions() {
		parts = append(parts, fmt.Sprintf("%s (%d)", name, s.Compression[name]))
	}
	fmt.Fprintf(t, "compression\t%s\n", clean(strings.Join(parts, ", ")))
	if !s.Indexed {
		fmt.Fprintf(t, "index\tmissing or broken; the bag was read through\n")
	}
	t.Flush()
	b.WriteString("\n")
	t = tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintf(t, "topic\ttype\tmessages\trate\tfrom\tto\tnotes\n")
	for _, p := range s.Topics {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", clean(p.Name), clean(p.Type), p.Count, rate(p.Rate),
			s.since(p.First, p.Count), s.since(p.Last, p.Count), clean(strings.Join(p.notes(), ", ")))
	}
	t.Flush()
	for _, x := range s.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", clean(x))
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (p *Topic) notes() []string {
	var out []string
	if p.Latched {
		out = append(out, "latched")
	}
	if p.Publishers > 1 {
		out = append(out, fmt.Sprintf("%d connections", p.Publishers))
	}
	switch {
	case p.Differs != "":
		out = append(out, "another definition than the built-in one")
	case !p.Known:
		out = append(out, "type not known, skipped")
	case p.BuiltIn:
		out = append(out, "no definition in the bag")
	}
	return out
}

// Print writes the report as text.
func (r *Report) Print(w io.Writer) error {
	if err := r.Summary.Print(w); err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("\n")
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-7s  %-11s  %s\n", f.Severity, f.Need, clean(f.Text))
		if f.Remedy != "" {
			fmt.Fprintf(&b, "%22s%s\n", "→ ", clean(f.Remedy))
		}
	}
	if r.Usable {
		b.WriteString("\nThe node can answer from this bag.\n")
	} else {
		b.WriteString("\nThe node cannot answer from this bag as it is: see the errors above.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// clean keeps text from a bag from moving the terminal's cursor or colours.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return '�'
		}
		return r
	}, s)
}

func (s *Summary) since(ns, count int64) string {
	if count == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f s", float64(ns-s.First)/1e9)
}

func named(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func rate(hz float64) string {
	if hz == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f Hz", hz)
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05.000 UTC") }

func seconds(ns int64) string { return fmt.Sprintf("%d.%09d s", ns/1e9, ns%1e9) }

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.2f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
