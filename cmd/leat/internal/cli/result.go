package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"
)

// Result is what a command answers: fields, each a name and a value, and tables, in the order in which they were added.
//
// As text it is for people and may change. JSON is one object: a field is a member, a table an array of objects, never null; the
// names are the column names in lower case with _ for -. TSV has no headers: a table's rows alone if there is nothing else, else
// each line begins with the field's or table's name. Both are kept stable.
type Result struct {
	parts  []part
	dryRun bool
	err    json.RawMessage
}

type part struct {
	name  string
	value any // of a field
	table *Table
}

// Table is rows under columns. Column names have no spaces.
type Table struct {
	columns []string
	rows    [][]any
}

// Field adds a field.
func (r *Result) Field(name string, value any) {
	r.parts = append(r.parts, part{name: name, value: value})
}

// Table adds a table.
func (r *Result) Table(name string, columns ...string) *Table {
	t := &Table{columns: columns}
	r.parts = append(r.parts, part{name: name, table: t})
	return t
}

// Row adds a row: a value for each column. Nil is "none". A value of type error marks a row that failed; the command then fails.
func (t *Table) Row(values ...any) {
	if len(values) != len(t.columns) {
		panic(fmt.Sprintf("cli: %d values for the columns %v", len(values), t.columns))
	}
	t.rows = append(t.rows, values)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// failure is the error of a result with failed rows; it unwraps to the rows' errors.
func (r *Result) failure() error {
	if r == nil {
		return nil
	}
	var errs []error
	total := 0
	for _, p := range r.parts {
		if p.table == nil {
			continue
		}
		for _, row := range p.table.rows {
			total++
			for _, v := range row {
				if err, ok := v.(error); ok && err != nil {
					errs = append(errs, err)
				}
			}
		}
	}
	switch {
	case len(errs) == 0:
		return nil
	case len(errs) == 1 && total == 1:
		return errs[0]
	}
	return fmt.Errorf("%d of %d failed: %w", len(errs), total, errors.Join(errs...))
}

// nothingWorked reports whether the rows say nothing that the error does not.
func (r *Result) nothingWorked() bool {
	for _, p := range r.parts {
		if p.table == nil {
			return false
		}
		for _, row := range p.table.rows {
			failed := false
			for _, v := range row {
				_, bad := v.(error)
				failed = failed || bad
			}
			if !failed {
				return false
			}
		}
	}
	return true
}

func (r *Result) print(w io.Writer, format string) error {
	var out bytes.Buffer
	switch format {
	case "json":
		r.json(&out)
	case "tsv":
		r.tsv(&out)
	default:
		r.text(&out)
	}
	_, err := w.Write(out.Bytes())
	return err
}

func (r *Result) json(out *bytes.Buffer) {
	out.WriteByte('{')
	comma := func(i int) {
		if i > 0 {
			out.WriteByte(',')
		}
	}
	for i, p := range r.parts {
		comma(i)
		fmt.Fprintf(out, "%s:", marshal(jsonName(p.name)))
		if p.table == nil {
			out.Write(marshal(cell(p.value)))
			continue
		}
		out.WriteByte('[')
		for i, row := range p.table.rows {
			comma(i)
			out.WriteByte('{')
			for c, v := range row {
				comma(c)
				fmt.Fprintf(out, "%s:%s", marshal(jsonName(p.table.columns[c])), marshal(cell(v)))
			}
			out.WriteByte('}')
		}
		out.WriteByte(']')
	}
	n := len(r.parts)
	if r.dryRun {
		comma(n)
		out.WriteString(`"dry_run":true`)
		n++
	}
	if r.err != nil {
		comma(n)
		fmt.Fprintf(out, `"error":%s`, r.err)
	}
	out.WriteString("}\n")
}

func (r *Result) tsv(out *bytes.Buffer) {
	for _, p := range r.parts {
		prefix := ""
		if len(r.parts) > 1 {
			prefix = jsonName(p.name) + "\t"
		}
		if p.table == nil {
			fmt.Fprintf(out, "%s%s\n", prefix, tsvCell(p.value))
			continue
		}
		for _, row := range p.table.rows {
			cells := make([]string, len(row))
			for i, v := range row {
				cells[i] = tsvCell(v)
			}
			fmt.Fprintf(out, "%s%s\n", prefix, strings.Join(cells, "\t"))
		}
	}
}

func tsvCell(v any) string {
	if v == nil {
		return ""
	}
	return EscapeTSV(textCell(v))
}

// EscapeTSV makes s one field of a TSV line.
func EscapeTSV(s string) string {
	return strings.NewReplacer("\\", `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`).Replace(s)
}

func (r *Result) text(out *bytes.Buffer) {
	if r.dryRun {
		out.WriteString("Dry run: nothing was changed.\n")
	}
	tables := 0
	for _, p := range r.parts {
		if p.table != nil {
			tables++
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i, p := range r.parts {
		if p.table == nil {
			fmt.Fprintf(w, "%s\t%s\n", p.name, textCell(p.value))
			continue
		}
		w.Flush()
		if i > 0 {
			out.WriteByte('\n')
		}
		if tables > 1 {
			fmt.Fprintf(out, "%s\n", strings.ToUpper(p.name))
		}
		p.table.text(w)
	}
	w.Flush()
	trimLines(out)
}

// text prints the table without an error column in which nothing is.
func (t *Table) text(w io.Writer) {
	shown := make([]bool, len(t.columns))
	for c, name := range t.columns {
		shown[c] = name != "ERROR"
		for _, row := range t.rows {
			shown[c] = shown[c] || row[c] != nil
		}
	}
	line := func(cell func(c int) string) {
		var cells []string
		for c := range t.columns {
			if shown[c] {
				cells = append(cells, cell(c))
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	line(func(c int) string { return t.columns[c] })
	for _, row := range t.rows {
		line(func(c int) string { return strings.NewReplacer("\t", " ", "\n", " ").Replace(textCell(row[c])) })
	}
}

// trimLines removes the padding that tabwriter leaves after a last column that is empty.
func trimLines(out *bytes.Buffer) {
	var b strings.Builder
	for line := range strings.Lines(out.String()) {
		b.WriteString(strings.TrimRight(line, " \n"))
		b.WriteByte('\n')
	}
	out.Reset()
	out.WriteString(b.String())
}

func textCell(v any) string {
	switch v := cell(v).(type) {
	case nil:
		return "-"
	case string:
		if v == "" {
			return "-"
		}
		return v
	case json.RawMessage:
		return string(v)
	case float64:
		return fmt.Sprintf("%.3f", v)
	default:
		if list := reflect.ValueOf(v); list.Kind() == reflect.Slice {
			items := make([]string, list.Len())
			for i := range items {
				items[i] = fmt.Sprint(list.Index(i))
			}
			if len(items) == 0 {
				return "-"
			}
			return strings.Join(items, ",")
		}
		return fmt.Sprint(v)
	}
}

// cell is a value as the formats know it: times in RFC 3339 and UTC, errors as their text, lists that are never nil.
func cell(v any) any {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05.000Z")
	case time.Duration:
		return v.String()
	case error:
		return Problem(v)
	case *string:
		if v == nil {
			return nil
		}
		return *v
	}
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice && list.IsNil() {
		return []string{}
	}
	return v
}

func jsonName(column string) string {
	return strings.ReplaceAll(strings.ToLower(column), "-", "_")
}

// marshal is JSON without escapes for HTML.
func marshal(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return json.RawMessage(`null`)
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// DryRun marks the result as what would be done.
func (r *Result) DryRun() { r.dryRun = true }

// Replace changes the rows of a table in place, and returns the result: a plan becomes what was done.
func (r *Result) Replace(name string, change func(row []any)) *Result {
	for _, p := range r.parts {
		if p.name == name && p.table != nil {
			for _, row := range p.table.rows {
				change(row)
			}
		}
	}
	return r
}
