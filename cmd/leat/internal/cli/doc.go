// Package cli is what all commands of leat have in common: how they are called, how they reach a cluster, and how they answer.
//
// A command's work is a function from its arguments to a [Result]. [Env.Action] makes it a cobra command's RunE, and [Execute]
// prints the result as text, JSON or TSV, turns errors into exit codes, and adds to an error what the user can do about it. A
// command never prints a result itself, except those that stream records.
package cli
