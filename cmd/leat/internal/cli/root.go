package cli

import (
	"encoding/json"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpTemplate ends each help page with examples and where to read on.
const helpTemplate = `Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]{{end}}{{if gt (len .Aliases) 0}}

Aliases:
  {{.NameAndAliases}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Shared flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasExample}}

EXAMPLES
{{.Example}}{{end}}

SEE ALSO
  {{if .HasAvailableSubCommands}}{{.CommandPath}} [command] --help{{else if .HasParent}}{{.Parent.CommandPath}} --help{{end}}, docs/cli.md
`

// Root makes cmd the program: help pages, completion, and --help-json.
func Root(cmd *cobra.Command) *cobra.Command {
	cmd.SetUsageTemplate(helpTemplate)
	cmd.CompletionOptions.HiddenDefaultCmd = false
	tree := false
	cmd.Flags().BoolVar(&tree, "help-json", false, "print all commands and flags as JSON")
	help := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !tree || len(args) > 0 {
			return help(cmd, args)
		}
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetEscapeHTML(false)
		return enc.Encode(describe(cmd))
	}
	return cmd
}

type commandJSON struct {
	Name     string        `json:"name"`
	Use      string        `json:"use"`
	Short    string        `json:"short"`
	Example  string        `json:"example,omitempty"`
	Flags    []flagJSON    `json:"flags"`
	Commands []commandJSON `json:"commands"`
}

type flagJSON struct {
	Name      string `json:"name"`
	Shorthand string `json:"shorthand,omitempty"`
	Type      string `json:"type"`
	Default   string `json:"default,omitempty"`
	Usage     string `json:"usage"`
}

// describe is the tree of commands below cmd.
func describe(cmd *cobra.Command) commandJSON {
	c := commandJSON{Name: cmd.CommandPath(), Use: cmd.UseLine(), Short: cmd.Short, Example: strings.TrimSpace(cmd.Example),
		Flags: []flagJSON{}, Commands: []commandJSON{}}
	add := func(f *pflag.Flag) {
		c.Flags = append(c.Flags, flagJSON{f.Name, f.Shorthand, f.Value.Type(), f.DefValue, f.Usage})
	}
	cmd.LocalFlags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			c.Commands = append(c.Commands, describe(sub))
		}
	}
	return c
}
