package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

func (a *app) secret() *cobra.Command {
	c := &cobra.Command{
		Use: "secret", Short: "Set, list and remove secrets",
		Long: "Secrets are values that functions can read whose version was granted them (wattle push --allow-secret NAME), and nobody else: no command shows one.",
	}
	c.AddCommand(
		a.setSecret(),
		&cobra.Command{
			Use: "ls", Short: "List the secrets, without their values", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				res, err := a.client().Secrets.ListSecrets(cmd.Context(), connect.NewRequest(&wattlev1.ListSecretsRequest{}))
				if err != nil {
					return err
				}
				return a.print(res.Msg, func(w io.Writer) {
					table(w, "SECRET\tSET\tKEY", func(row func(...any)) {
						for _, s := range res.Msg.Secrets {
							row(s.Name, since(s.SetAt.AsTime()), s.KeyId)
						}
					})
				})
			},
		},
		&cobra.Command{
			Use: "rm NAME", Short: "Remove a secret", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				_, err := a.client().Secrets.DeleteSecret(cmd.Context(), connect.NewRequest(&wattlev1.DeleteSecretRequest{Name: args[0]}))
				return err
			},
		},
	)
	return c
}

func (a *app) setSecret() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "set NAME", Short: "Set a secret to what comes on stdin",
		Long: "Set a secret to what comes on stdin, without the line end, or to the bytes of a file. It is never an argument, since everybody on a machine sees those.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			value, err := a.secretValue(file)
			if err != nil {
				return err
			}
			res, err := a.client().Secrets.SetSecret(cmd.Context(), connect.NewRequest(&wattlev1.SetSecretRequest{Name: args[0], Value: value}))
			if err != nil {
				return err
			}
			return a.print(res.Msg.Secret, func(w io.Writer) { fmt.Fprintf(w, "secret %s is set\n", res.Msg.Secret.Name) })
		},
	}
	c.Flags().StringVar(&file, "file", "", "a file with the value, as it is")
	return c
}

func (a *app) secretValue(file string) ([]byte, error) {
	if file != "" {
		return os.ReadFile(file)
	}
	if f, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(a.stderr, "value: ")
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.stderr)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(a.stdin, 1<<20))
	if err != nil {
		return nil, err
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(b) == 0 {
		return nil, errors.New("nothing came on stdin: write the value there, or name a file with --file")
	}
	return b, nil
}
