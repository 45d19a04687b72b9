package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
)

// outputFormat is the value of --output.
type outputFormat string

const (
	formatTable outputFormat = "table"
	formatJSON  outputFormat = "json"
)

// String implements pflag.Value.
func (f *outputFormat) String() string { return string(*f) }

// Set implements pflag.Value.
func (f *outputFormat) Set(s string) error {
	switch outputFormat(s) {
	case formatTable, formatJSON:
		*f = outputFormat(s)
		return nil
	}
	return fmt.Errorf("must be table or json")
}

// Type implements pflag.Value.
func (f *outputFormat) Type() string { return "format" }

// asJSON tells whether a script reads.
func (a *app) asJSON() bool { return a.output == formatJSON }

// printJSON prints the answer of a command, indented.
func (a *app) printJSON(v any) error {
	e := a.encoder()
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// lineJSON prints one object of several on a line of its own.
func (a *app) lineJSON(v any) error { return a.encoder().Encode(v) }

func (a *app) encoder() *json.Encoder {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	return e
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

// row makes a line of a table; what is empty shows as a dash.
func row(cells ...any) table.Row {
	r := make(table.Row, len(cells))
	for i, c := range cells {
		r[i] = clean(fmt.Sprint(c))
		if r[i] == "" {
			r[i] = "-"
		}
	}
	return r
}

// clean keeps what others wrote from moving the cursor.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// printTable prints lines under their headings.
func printTable(w io.Writer, head table.Row, rows []table.Row) {
	t := newTable()
	t.AppendHeader(head)
	t.AppendRows(rows)
	fmt.Fprintln(w, t.Render())
}

// printPairs prints what there is to know of one thing.
func printPairs(w io.Writer, rows ...table.Row) {
	t := newTable()
	t.AppendRows(rows)
	fmt.Fprintln(w, t.Render())
}

func newTable() table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	return t
}

func list(names []string) string { return strings.Join(names, ", ") }

// orEmpty makes an array in JSON of what would be null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
