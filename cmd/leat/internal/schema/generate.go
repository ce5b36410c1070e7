package schema

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/registry/avro"
)

// generation are the flags of leat schema generate.
type generation struct {
	pkg       string
	output    string
	known     []string
	fromGo    string
	namespace string
	kind      string
}

func newGenerate(env *cli.Env) *cobra.Command {
	var g generation
	cmd := &cobra.Command{
		Use:   "generate (FILE | SUBJECT[:VERSION] | --from-go FOLDER TYPE)",
		Short: "Write Go structs from an Avro schema, or a schema from a Go type",
		Long: `Writes Go source from an Avro schema: a struct for each record, a string type for each enum, the schema as a constant, and the serde.
A schema of the registry is taken with what it refers to; for a file, --known names the files of what it refers to, in order.

With --from-go it is the other way round: the schema that Leat's serdes derive from a type of the Go package in a folder, exported or not.
The package's module must require Leat; the go command is run in it.`,
		Example: `  leat schema generate order.avsc --package shop -o shop/order.go
  leat schema generate order.avsc --known money.avsc --package shop
  leat schema generate orders-value:2 --package shop
  leat schema generate --from-go ./shop Order --namespace com.shop -o order.avsc`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: subjects(env),
		RunE: env.Action(func(cmd *cobra.Command, args []string) (*cli.Result, error) {
			out, err := g.run(cmd.Context(), env, args[0])
			if err != nil {
				return nil, err
			}
			if g.output != "" {
				if err := os.MkdirAll(filepath.Dir(g.output), 0o755); err != nil {
					return nil, err
				}
				return nil, os.WriteFile(g.output, out, 0o644)
			}
			_, err = env.Out.Write(out)
			return nil, err
		}),
	}
	cmd.Flags().StringVar(&g.pkg, "package", "", "the name of the Go package (default that of the output's folder, else main)")
	cmd.Flags().StringVarP(&g.output, "output", "o", "", "the file to write instead of standard output")
	cmd.Flags().StringArrayVar(&g.known, "known", nil, "an .avsc file with types that FILE uses; may be given more than once, in the order in which they build on each other")
	cmd.Flags().StringVar(&g.fromGo, "from-go", "", "the folder of the Go package that has TYPE")
	cmd.Flags().StringVar(&g.namespace, "namespace", "", "with --from-go: the namespace of the Avro record")
	cmd.Flags().StringVar(&g.kind, "type", "avro", "with --from-go: avro or json")
	return cmd
}

func (g *generation) run(ctx context.Context, env *cli.Env, of string) ([]byte, error) {
	if g.fromGo != "" {
		if len(g.known) > 0 || g.pkg != "" {
			return nil, cli.Usagef("--known and --package do not go with --from-go")
		}
		return g.schemaOf(ctx, of)
	}
	if g.namespace != "" {
		return nil, cli.Usagef("--namespace goes with --from-go only: a schema has its own")
	}
	pkg := g.pkg
	if pkg == "" {
		pkg = "main"
		if dir, err := filepath.Abs(filepath.Dir(g.output)); g.output != "" && err == nil {
			pkg = filepath.Base(dir)
		}
	}
	text, known, err := g.schemaText(ctx, env, of)
	if err != nil {
		return nil, err
	}
	out, err := avro.GenerateGo(pkg, text, known...)
	if err != nil {
		hint := ""
		if strings.Contains(err.Error(), "undefined name") {
			hint = ". Name the files of the types that it uses with --known"
		}
		return nil, fmt.Errorf("%s: %w%s", of, err, hint)
	}
	return out, nil
}

// schemaText is the text of a file or of a subject's version, and those of what it refers to.
func (g *generation) schemaText(ctx context.Context, env *cli.Env, of string) (text string, known []string, err error) {
	b, err := os.ReadFile(of)
	if err == nil {
		for _, path := range g.known {
			k, err := os.ReadFile(path)
			if err != nil {
				return "", nil, err
			}
			known = append(known, string(k))
		}
		return string(b), known, nil
	}
	if !errors.Is(err, os.ErrNotExist) || strings.HasSuffix(of, ".avsc") || len(g.known) > 0 {
		return "", nil, err
	}
	reg, err := env.Registry()
	if err != nil {
		return "", nil, err
	}
	subject, v, err := at(of)
	if err != nil {
		return "", nil, err
	}
	found, err := reg.SchemaByVersion(ctx, subject, v)
	if err != nil {
		return "", nil, env.RegistryError(notFound(ctx, reg, subject, err))
	}
	if found.Type != sr.TypeAvro {
		return "", nil, fmt.Errorf("subject %q has schemas of type %s, and Go source is written for Avro: use protoc for Protobuf", subject, found.Type)
	}
	known, err = referred(ctx, reg, found.References, make(map[string]bool))
	return found.Schema.Schema, known, env.RegistryError(err)
}

// referred are the texts of what references name, before each those that it refers to, each once.
func referred(ctx context.Context, reg *sr.Client, refs []sr.SchemaReference, seen map[string]bool) ([]string, error) {
	var texts []string
	for _, r := range refs {
		name := fmt.Sprintf("%s:%d", r.Subject, r.Version)
		if seen[name] {
			continue
		}
		seen[name] = true
		s, err := reg.SchemaByVersion(ctx, r.Subject, r.Version)
		if err != nil {
			return nil, fmt.Errorf("the reference %s: %w", name, err)
		}
		before, err := referred(ctx, reg, s.References, seen)
		if err != nil {
			return nil, err
		}
		texts = append(append(texts, before...), s.Schema.Schema)
	}
	return texts, nil
}

// probe is the test that is put into a Go package to derive a schema from one of its types: as a test it may be in package
// main, and sees what is not exported.
const probe = `package %s

import (
	"os"
	"reflect"
	"testing"

	leatavro "github.com/leatstream/leat/registry/avro"
	leatjson "github.com/leatstream/leat/registry/jsonschema"
)

func TestLeatSchema(t *testing.T) {
	text, err := %s
	_, _ = leatavro.SchemaOf[int], leatjson.SchemaOf
	_ = reflect.TypeFor[int]
	if err == nil {
		err = os.WriteFile(%q, []byte(text+"\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
`

// schemaOf runs the go command on the package with the probe laid over it. Nothing is written into its folder.
func (g *generation) schemaOf(ctx context.Context, name string) ([]byte, error) {
	if !isTypeName(name) {
		return nil, cli.Usagef("%q is not the name of a Go type", name)
	}
	call := "leatavro.SchemaOf[" + name + "](" + strconv.Quote(g.namespace) + ")"
	switch {
	case g.kind == "json" && g.namespace != "":
		return nil, cli.Usagef("--namespace goes with Avro schemas only")
	case g.kind == "json":
		call = "leatjson.SchemaOf(reflect.TypeFor[" + name + "]())"
	case g.kind != "avro":
		return nil, cli.Usagef("--type %q: want avro or json", g.kind)
	}
	pkg, err := goPackage(ctx, g.fromGo)
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp("", "leat-schema-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	source, result, overlay := filepath.Join(temp, "probe.go"), filepath.Join(temp, "schema"), filepath.Join(temp, "overlay.json")
	// The package's own tests are laid over with nothing: they need not compile, and their TestMain must not run.
	replace := map[string]string{filepath.Join(pkg.Dir, "leat_schema_test.go"): source}
	for _, file := range append(pkg.TestGoFiles, pkg.XTestGoFiles...) {
		replace[filepath.Join(pkg.Dir, file)] = ""
	}
	over, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.WriteFile(source, fmt.Appendf(nil, probe, pkg.Name, call, result), 0o600), os.WriteFile(overlay, over, 0o600))
	if err != nil {
		return nil, err
	}
	if _, err := goCommand(ctx, pkg.Dir, "test", "-overlay", overlay, "-vet=off", "-count=1", "-run", "^TestLeatSchema$", "."); err != nil {
		return nil, fmt.Errorf("derive the schema of %s in %s: %w", name, g.fromGo, err)
	}
	return os.ReadFile(result)
}

// isTypeName says whether text is a name, and so safe to write into source.
func isTypeName(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// goFolder is what go list says about the package in a folder.
type goFolder struct {
	Name, Dir                 string
	TestGoFiles, XTestGoFiles []string
}

func goPackage(ctx context.Context, folder string) (goFolder, error) {
	var pkg goFolder
	out, err := goCommand(ctx, folder, "list", "-json=Name,Dir,TestGoFiles,XTestGoFiles", ".")
	if err == nil {
		err = json.Unmarshal(out, &pkg)
	}
	if err != nil {
		return pkg, fmt.Errorf("the Go package in %s: %w", folder, err)
	}
	return pkg, nil
}

// goCommand runs the go command in a folder and returns what it printed.
func goCommand(ctx context.Context, folder string, args ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir = folder
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("the go command is not there: install Go, or add it to the PATH")
	}
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", args[0], err, strings.TrimSpace(out.String()+errs.String()))
	}
	return out.Bytes(), nil
}
