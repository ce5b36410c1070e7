package schema

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

func newDiff(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "diff SUBJECT:VERSION (SUBJECT:VERSION | FILE)",
		Short: "Compare two schemas line by line",
		Long:  "Compares the texts, formatted the same way. The exit code is 0 whether they differ or not.",
		Example: `  leat schema diff orders-value:1 orders-value:2
  leat schema diff orders-value order-v3.avsc`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: subjects(env),
		RunE: asking(env, func(ctx context.Context, reg *sr.Client, args []string) (*cli.Result, error) {
			var texts [2][]string
			for i, arg := range args {
				text, err := schemaText(ctx, reg, arg)
				if err != nil {
					return nil, err
				}
				texts[i] = pretty(text)
			}
			res := new(cli.Result)
			table := res.Table("lines", "CHANGE", "LINE")
			for _, l := range compare(texts[0], texts[1]) {
				table.Row(l.change, l.text)
			}
			if env.Format() == "text" {
				for _, l := range compare(texts[0], texts[1]) {
					if _, err := fmt.Fprintf(env.Out, "%s %s\n", l.change, l.text); err != nil {
						return nil, err
					}
				}
				return nil, nil
			}
			return res, nil
		}),
	}
}

// schemaText is that of a file if there is one with this name, else of a subject.
func schemaText(ctx context.Context, reg *sr.Client, arg string) (string, error) {
	if text, err := os.ReadFile(arg); err == nil {
		return string(text), nil
	}
	subject, v, err := at(arg)
	if err != nil {
		return "", err
	}
	found, err := reg.SchemaByVersion(ctx, subject, v)
	if err != nil {
		return "", notFound(ctx, reg, subject, err)
	}
	return found.Schema.Schema, nil
}

// pretty is a JSON schema's text in indented lines; another's in its own.
func pretty(text string) []string {
	var v any
	if json.Unmarshal([]byte(text), &v) == nil {
		if out, err := json.MarshalIndent(v, "", "  "); err == nil {
			text = string(out)
		}
	}
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}

// changedLine is a line of a comparison: "-" only before, "+" only after, " " in both.
type changedLine struct{ change, text string }

// maxPairs bounds the table of a comparison, in pairs of lines.
const maxPairs = 1 << 22

// compare finds the longest common lines: those at the beginning and the end, and by a table of all pairs those between. Where
// that would be too large, all lines between count as changed.
func compare(a, b []string) []changedLine {
	var head, tail []changedLine
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, changedLine{" ", a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, changedLine{" ", a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	slices.Reverse(tail)
	if len(a)*len(b) <= maxPairs {
		return slices.Concat(head, compareAll(a, b), tail)
	}
	for _, l := range a {
		head = append(head, changedLine{"-", l})
	}
	for _, l := range b {
		head = append(head, changedLine{"+", l})
	}
	return append(head, tail...)
}

func compareAll(a, b []string) []changedLine {
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var lines []changedLine
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			lines = append(lines, changedLine{" ", a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, changedLine{"-", a[i]})
			i++
		default:
			lines = append(lines, changedLine{"+", b[j]})
			j++
		}
	}
	return lines
}

func newCompat(env *cli.Env) *cobra.Command {
	var set string
	var reset bool
	cmd := &cobra.Command{
		Use:   "compat [SUBJECT]",
		Short: "Show or set how schemas of a subject, or of all, may change",
		Example: `  leat schema compat
  leat schema compat orders-value --set FULL_TRANSITIVE
  leat schema compat orders-value --reset`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: subjects(env),
		RunE: asking(env, func(ctx context.Context, reg *sr.Client, args []string) (*cli.Result, error) {
			var results []sr.CompatibilityResult
			switch {
			case reset:
				results = reg.ResetCompatibility(ctx, args...)
			case set != "":
				var level sr.CompatibilityLevel
				if err := level.UnmarshalText([]byte(strings.ToUpper(set))); err != nil {
					return nil, cli.Usagef("--set %q: want NONE, BACKWARD, FORWARD or FULL, or one of the last three with _TRANSITIVE", set)
				}
				results = reg.SetCompatibility(ctx, sr.SetCompatibility{Level: level}, args...)
			default:
				results = reg.Compatibility(sr.WithParams(ctx, sr.DefaultToGlobal), args...)
			}
			res := new(cli.Result)
			table := res.Table("compatibility", "SUBJECT", "LEVEL", "ERROR")
			for _, r := range results {
				subject := any(r.Subject)
				if r.Subject == "" {
					subject = nil // all
				}
				if r.Err != nil {
					table.Row(subject, nil, r.Err)
				} else {
					table.Row(subject, r.Level.String(), nil)
				}
			}
			return res, nil
		}),
	}
	cmd.Flags().StringVar(&set, "set", "", "NONE, BACKWARD, FORWARD, FULL, or one of these with _TRANSITIVE")
	cmd.Flags().BoolVar(&reset, "reset", false, "put the subject back to the level of all")
	cmd.MarkFlagsMutuallyExclusive("set", "reset")
	return cmd
}

func newDelete(env *cli.Env) *cobra.Command {
	var (
		d         cli.Destruction
		permanent bool
	)
	cmd := &cobra.Command{
		Use:   "delete SUBJECT[:VERSION]",
		Short: "Delete a version of a subject, or all",
		Long: `Deletes softly: the schemas can still be read by their ids, so records written with them too. --permanent deletes what was deleted
softly before for good; records written with it can then no longer be read.`,
		Example: `  leat schema delete orders-value:2 --yes
  leat schema delete orders-value --permanent --dry-run`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: subjects(env),
		RunE: asking(env, func(ctx context.Context, reg *sr.Client, args []string) (*cli.Result, error) {
			subject, v, err := at(args[0])
			if err != nil {
				return nil, err
			}
			seen := ctx
			if permanent {
				seen = sr.WithParams(ctx, sr.ShowDeleted)
			}
			versions, err := reg.SubjectVersions(seen, subject)
			if err != nil {
				return nil, notFound(ctx, reg, subject, err)
			}
			one := strings.HasPrefix(args[0], subject+":")
			if one && v > 0 {
				if !slices.Contains(versions, v) {
					return nil, fmt.Errorf("subject %q has no version %d: it has %v", subject, v, versions)
				}
				versions = []int{v}
			} else if one {
				versions = []int{slices.Max(versions)}
			}
			plan := new(cli.Result)
			table := plan.Table("schemas", "SUBJECT", "VERSION", "STATUS", "ERROR")
			for _, n := range versions {
				table.Row(subject, n, "would-be-deleted", nil)
			}
			how, kind := sr.SoftDelete, "softly"
			if permanent {
				how, kind = sr.HardDelete, "for good"
			}
			if ok, res, err := d.Agreed(env, plan, fmt.Sprintf("Delete %s of subject %q %s?", cli.Count(len(versions), "version"), subject, kind)); !ok {
				return res, err
			}
			if one {
				err = reg.DeleteSchema(ctx, subject, versions[0], how)
			} else {
				_, err = reg.DeleteSubject(ctx, subject, how)
			}
			if err != nil {
				return nil, err
			}
			return plan.Replace("schemas", func(row []any) { row[2] = "deleted" }), nil
		}),
	}
	cmd.Flags().BoolVar(&permanent, "permanent", false, "for good")
	d.Flags(cmd)
	return cmd
}

// exported is a line of an export.
type exported struct {
	Subject    string               `json:"subject"`
	Version    int                  `json:"version"`
	ID         int                  `json:"id"`
	Type       string               `json:"schemaType"`
	References []sr.SchemaReference `json:"references"`
	Metadata   *sr.SchemaMetadata   `json:"metadata,omitempty"`
	RuleSet    *sr.SchemaRuleSet    `json:"ruleSet,omitempty"`
	Schema     string               `json:"schema"`
}

func newExport(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:     "export",
		Short:   "Print all versions of all subjects, one JSON object a line",
		Example: `  leat schema export > schemas.jsonl`,
		Args:    cobra.NoArgs,
		RunE: asking(env, func(ctx context.Context, reg *sr.Client, _ []string) (*cli.Result, error) {
			names, err := reg.Subjects(ctx)
			if err != nil {
				return nil, err
			}
			var all []sr.SubjectSchema
			for _, name := range names {
				versions, err := reg.Schemas(ctx, name)
				if err != nil {
					return nil, fmt.Errorf("subject %q: %w", name, err)
				}
				all = append(all, versions...)
			}
			// In the order of ids what is referred to comes before what refers to it, and an import hands out the same order.
			slices.SortFunc(all, func(a, b sr.SubjectSchema) int {
				if a.ID != b.ID {
					return a.ID - b.ID
				}
				return a.Version - b.Version
			})
			out := bufio.NewWriter(env.Out)
			enc := json.NewEncoder(out)
			enc.SetEscapeHTML(false)
			for _, s := range all {
				refs := s.References
				if refs == nil {
					refs = []sr.SchemaReference{}
				}
				if err := enc.Encode(exported{s.Subject, s.Version, s.ID, s.Type.String(), refs, s.SchemaMetadata, s.SchemaRuleSet, s.Schema.Schema}); err != nil {
					return nil, err
				}
			}
			return nil, out.Flush()
		}),
	}
}

func newImport(env *cli.Env) *cobra.Command {
	var keepIDs bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Register the schemas of an export, in its order",
		Long: `Registers what 'leat schema export' printed. Ids are given anew, unless --keep-ids is given: then the registry must be empty or have
the same ids for the same schemas, and be in import mode ('PUT /mode?force=true' with {"mode":"IMPORT"}).`,
		Example: `  leat schema import schemas.jsonl --registry http://new:8081`,
		Args:    cobra.ExactArgs(1),
		RunE: asking(env, func(ctx context.Context, reg *sr.Client, args []string) (*cli.Result, error) {
			f, err := os.Open(args[0])
			if err != nil {
				return nil, err
			}
			defer f.Close()
			res := new(cli.Result)
			table := res.Table("schemas", "SUBJECT", "VERSION", "ID", "OLD-ID", "ERROR")
			lines := bufio.NewScanner(f)
			lines.Buffer(nil, maxSchema)
			for n := 1; lines.Scan(); n++ {
				var e exported
				if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
					return res, fmt.Errorf("%s line %d: %w", args[0], n, err)
				}
				s := sr.Schema{Schema: e.Schema, References: e.References, SchemaMetadata: e.Metadata, SchemaRuleSet: e.RuleSet}
				if err := s.Type.UnmarshalText([]byte(e.Type)); err != nil {
					return res, fmt.Errorf("%s line %d: %w", args[0], n, err)
				}
				id, v := -1, -1
				if keepIDs {
					id, v = e.ID, e.Version
				}
				created, err := reg.CreateSchemaWithIDAndVersion(ctx, e.Subject, s, id, v)
				if err != nil {
					table.Row(e.Subject, e.Version, nil, e.ID, fmt.Errorf("subject %q version %d: %w", e.Subject, e.Version, err))
					continue
				}
				table.Row(e.Subject, created.Version, created.ID, e.ID, nil)
			}
			return res, lines.Err()
		}),
	}
	cmd.Flags().BoolVar(&keepIDs, "keep-ids", false, "register with the ids and versions of the export")
	return cmd
}
