package cli

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Destruction are the flags of a command that destroys something: the plan is shown first, and done only when the user agrees.
type Destruction struct {
	dryRun, yes bool
}

// Flags adds --dry-run and --yes.
func (d *Destruction) Flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&d.dryRun, "dry-run", false, "show what would be done, and do nothing")
	cmd.Flags().BoolVarP(&d.yes, "yes", "y", false, "do it without asking")
	cmd.MarkFlagsMutuallyExclusive("dry-run", "yes")
}

// Agreed reports whether to go on with the plan. If not, the command returns the result and the error that come with it: for a dry
// run the plan, for a plan that nobody could agree to an error of usage. question is asked on a terminal, "Delete 2 topics?".
func (d *Destruction) Agreed(env *Env, plan *Result, question string) (ok bool, res *Result, err error) {
	switch {
	case d.dryRun:
		plan.dryRun = true
		return false, plan, nil
	case d.yes:
		return true, nil, nil
	case !env.Terminal:
		plan.dryRun = true
		if env.format != "json" {
			if err := plan.print(env.Err, env.format); err != nil {
				return false, nil, err
			}
		}
		return false, nil, usageError{fmt.Errorf("%s Nobody is there to say yes: add --yes, or --dry-run to see the plan only", question), plan}
	}
	if err := plan.print(env.Err, "text"); err != nil {
		return false, nil, err
	}
	fmt.Fprintf(env.Err, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(env.In).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true, nil, nil
	}
	return false, nil, fmt.Errorf("nothing was done")
}
