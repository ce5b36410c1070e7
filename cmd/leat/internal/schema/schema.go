// Package schema holds the commands of leat schema: a client of any schema registry that speaks Confluent's REST API.
package schema

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/registry"
)

// New makes leat schema.
func New(env *cli.Env) *cobra.Command {
	return env.RegistryFlags(env.FormatFlags(cli.Group("schema", "Schemas: list, register, check, compare, delete, export, import, generate",
		newList(env), newGet(env), newRegister(env), newCheck(env), newDiff(env), newCompat(env), newDelete(env), newExport(env), newImport(env),
		newGenerate(env))))
}

// work is a command's part that talks to the registry.
type work = func(ctx context.Context, reg *sr.Client, args []string) (*cli.Result, error)

// asking makes the RunE of a command that asks the registry.
func asking(env *cli.Env, f work) func(*cobra.Command, []string) error {
	return env.Action(func(cmd *cobra.Command, args []string) (*cli.Result, error) {
		reg, err := env.Registry()
		if err != nil {
			return nil, err
		}
		res, err := f(cmd.Context(), reg, args)
		return res, env.RegistryError(err)
	})
}

// subjects completes the first argument.
func subjects(env *cli.Env) cli.Completion {
	return cli.First(func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		reg, err := env.Registry()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all, err := reg.Subjects(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, s := range all {
			if strings.HasPrefix(s, begun) {
				names = append(names, s)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

// version reads a version: a number or latest.
func version(s string) (int, error) {
	if s == "latest" || s == "" {
		return -1, nil
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < 1 {
		return 0, cli.Usagef("version %q: want a number or latest", s)
	}
	return v, nil
}

// at is SUBJECT or SUBJECT:VERSION.
func at(s string) (subject string, v int, err error) {
	if i := strings.LastIndexByte(s, ':'); i > 0 {
		if v, err := version(s[i+1:]); err == nil {
			return s[:i], v, nil
		}
	}
	return s, -1, nil
}

// notFound adds to the error of a subject that is not there the one that may be meant.
func notFound(ctx context.Context, reg *sr.Client, subject string, err error) error {
	var answer *sr.ResponseError
	if !errors.As(err, &answer) || answer.ErrorCode != 40401 {
		return err
	}
	known, lerr := reg.Subjects(ctx)
	if lerr != nil {
		return err
	}
	return fmt.Errorf("%w: %w", cli.NotFound("subject", subject, known, nil), err)
}

func newList(env *cli.Env) *cobra.Command {
	var deleted bool
	cmd := &cobra.Command{
		Use:     "list [PREFIX]",
		Aliases: []string{"ls"},
		Short:   "List subjects and their latest versions",
		Example: `  leat schema list
  leat schema list orders --format json`,
		Args: cobra.MaximumNArgs(1),
		RunE: asking(env, func(ctx context.Context, reg *sr.Client, args []string) (*cli.Result, error) {
			if deleted {
				ctx = sr.WithParams(ctx, sr.ShowDeleted)
			}
			names, err := reg.Subjects(ctx)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("subjects", "SUBJECT", "VERSION", "ID", "TYPE", "ERROR")
			for _, name := range names {
				if len(args) == 1 && !strings.HasPrefix(name, args[0]) {
					continue
				}
				s, err := reg.SchemaByVersion(ctx, name, -1)
				if err != nil {
					table.Row(name, nil, nil, nil, fmt.Errorf("subject %q: %w", name, err))
					continue
				}
				table.Row(name, s.Version, s.ID, s.Type.String(), nil)
			}
			return res, nil
		}),
	}
	cmd.Flags().BoolVar(&deleted, "deleted", false, "deleted subjects, too")
	return cmd
}

func newGet(env *cli.Env) *cobra.Command {
	var id int
	cmd := &cobra.Command{
		Use:   "get (SUBJECT[:VERSION] | --id N)",
		Short: "Print a schema",
		Long:  "Prints the schema's text. With --format json also its subject, version, id, type and references.",
		Example: `  leat schema get orders-value
  leat schema get orders-value:1 > order-v1.avsc
  leat schema get --id 7`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: subjects(env),
		RunE: asking(env, func(ctx context.Context, reg *sr.Client, args []string) (*cli.Result, error) {
			if (len(args) == 1) == (id > 0) {
				return nil, cli.Usagef("give either a subject or --id")
			}
			found := sr.SubjectSchema{ID: id}
			var err error
			if id > 0 {
				found.Schema, err = reg.SchemaByID(ctx, id)
			} else {
				subject, v, aerr := at(args[0])
				if aerr != nil {
					return nil, aerr
				}
				if found, err = reg.SchemaByVersion(ctx, subject, v); err != nil {
					err = notFound(ctx, reg, subject, err)
				}
			}
			if err != nil {
				return nil, err
			}
			if env.Format() == "text" {
				_, err := fmt.Fprintln(env.Out, found.Schema.Schema)
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("schemas", "SUBJECT", "VERSION", "ID", "TYPE", "REFERENCES", "SCHEMA")
			table.Row(found.Subject, found.Version, found.ID, found.Type.String(), references(found.Schema), found.Schema.Schema)
			return res, nil
		}),
	}
	cmd.Flags().IntVar(&id, "id", 0, "the schema's id")
	return cmd
}

// references are written as they are given: NAME=SUBJECT:VERSION.
func references(s sr.Schema) []string {
	all := []string{}
	for _, r := range s.References {
		all = append(all, fmt.Sprintf("%s=%s:%d", r.Name, r.Subject, r.Version))
	}
	return all
}

// definition are the flags and the file that make a schema.
type definition struct {
	kind       string
	references []string
}

func (d *definition) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.kind, "type", "", "avro, json or protobuf (default by the file's name: .avsc, .json, .proto)")
	cmd.Flags().StringArrayVar(&d.references, "reference", nil, "NAME=SUBJECT:VERSION of a schema that this one refers to; may be given more than once")
}

// read reads the file, "-" for standard input.
func (d *definition) read(env *cli.Env, path string) (sr.Schema, error) {
	s := sr.Schema{Type: sr.TypeAvro}
	kind := d.kind
	if kind == "" {
		switch {
		case strings.HasSuffix(path, ".proto"):
			kind = "protobuf"
		case strings.HasSuffix(path, ".json"):
			kind = "json"
		}
	}
	switch strings.ToLower(kind) {
	case "", "avro":
	case "json":
		s.Type = sr.TypeJSON
	case "protobuf":
		s.Type = sr.TypeProtobuf
	default:
		return s, cli.Usagef("--type %q: want avro, json or protobuf", kind)
	}
	var text []byte
	var err error
	if path == "-" {
		text, err = io.ReadAll(io.LimitReader(env.In, maxSchema))
	} else {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return s, err
	}
	s.Schema = string(text)
	for _, r := range d.references {
		name, where, ok := strings.Cut(r, "=")
		subject, v, err := at(where)
		if !ok || err != nil || v < 1 {
			return s, cli.Usagef("--reference %q: want NAME=SUBJECT:VERSION", r)
		}
		s.References = append(s.References, sr.SchemaReference{Name: name, Subject: subject, Version: v})
	}
	return s, nil
}

// maxSchema bounds a schema on standard input, in bytes.
const maxSchema = 16 << 20

func newRegister(env *cli.Env) *cobra.Command {
	var d definition
	cmd := &cobra.Command{
		Use:   "register SUBJECT FILE",
		Short: "Register a schema; one that is there already keeps its id and version",
		Example: `  leat schema register orders-value order.avsc
  leat schema register orders-value order-v2.avsc --reference com.shop.Money=money:1`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: subjects(env),
		RunE: asking(env, func(ctx context.Context, reg *sr.Client, args []string) (*cli.Result, error) {
			s, err := d.read(env, args[1])
			if err != nil {
				return nil, err
			}
			created, err := reg.CreateSchema(ctx, args[0], s)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			res.Table("schemas", "SUBJECT", "VERSION", "ID", "TYPE").Row(args[0], created.Version, created.ID, created.Type.String())
			return res, nil
		}),
	}
	d.flags(cmd)
	return cmd
}

// fix is what to do about a schema that does not fit a version of a subject; empty where that cannot be told. A registry says
// what is wrong; what would mend it is worked out here.
func fix(ctx context.Context, reg *sr.Client, subject string, v int, s sr.Schema) string {
	if len(s.References) > 0 {
		return ""
	}
	old, err := reg.SchemaByVersion(ctx, subject, v)
	if err != nil || len(old.References) > 0 {
		return ""
	}
	level := reg.Compatibility(sr.WithParams(ctx, sr.DefaultToGlobal), subject)
	if len(level) != 1 || level[0].Err != nil {
		return ""
	}
	err = registry.Check(registry.Level(level[0].Level.String()), s.Type.String(), s.Schema, old.Schema.Schema)
	if no, ok := errors.AsType[*registry.IncompatibleError](err); ok {
		return no.Fix
	}
	return ""
}

func newCheck(env *cli.Env) *cobra.Command {
	var (
		d  definition
		of string
	)
	cmd := &cobra.Command{
		Use:   "check SUBJECT FILE",
		Short: "Say whether a schema could be registered, and if not why: exit code 1",
		Example: `  leat schema check orders-value order-v3.avsc
  leat schema check orders-value order-v3.avsc --version 1`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: subjects(env),
		RunE: asking(env, func(ctx context.Context, reg *sr.Client, args []string) (*cli.Result, error) {
			s, err := d.read(env, args[1])
			if err != nil {
				return nil, err
			}
			v, err := version(of)
			if err != nil {
				return nil, err
			}
			level := reg.Compatibility(ctx, args[0])
			answer, err := reg.CheckCompatibility(sr.WithParams(ctx, sr.Verbose), args[0], v, s)
			if err != nil {
				return nil, notFound(ctx, reg, args[0], err)
			}
			res := new(cli.Result)
			res.Field("SUBJECT", args[0])
			res.Field("COMPATIBLE", answer.Is)
			if len(level) == 1 && level[0].Err == nil {
				res.Field("LEVEL", level[0].Level.String())
			}
			if how := fix(ctx, reg, args[0], v, s); how != "" && !answer.Is {
				res.Field("FIX", how)
			}
			table := res.Table("reasons", "REASON")
			for _, m := range answer.Messages {
				table.Row(m)
			}
			if !answer.Is {
				return res, fmt.Errorf("%s is not compatible with subject %q: %s", args[1], args[0], strings.Join(answer.Messages[:min(1, len(answer.Messages))], ""))
			}
			return res, nil
		}),
	}
	d.flags(cmd)
	cmd.Flags().StringVar(&of, "version", "latest", "the version to check against")
	return cmd
}
