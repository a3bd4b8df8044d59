package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	sdkguest "github.com/wattlehq/wattle/sdk-guest"
)

func (a *app) newProject() *cobra.Command {
	var lang string
	c := &cobra.Command{
		Use: "new NAME", Short: "Start a new guest project in a folder of its own", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := args[0]
			name := filepath.Base(dir)
			if err := sdkguest.NewProject(dir, name, lang); err != nil {
				return err
			}
			if a.output == "json" {
				_, err := fmt.Fprintf(a.stdout, "{\"dir\":%q}\n", dir)
				return err
			}
			_, err := fmt.Fprintf(a.stdout, "made %s; next:\n  cd %s && %s && wattle build && wattle push %s.wasm --service %s\n", dir, dir, sdkguest.TestCommand(lang), name, name)
			return err
		},
	}
	c.Flags().StringVar(&lang, "lang", "go", "the language: "+strings.Join(sdkguest.Languages(), ", "))
	return c
}

func (a *app) build() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "build [DIR]", Short: "Build a guest project into a .wasm file", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			abs, err := filepath.Abs(dir)
			if err != nil {
				return err
			}
			if out == "" {
				out = filepath.Join(abs, filepath.Base(abs)+".wasm")
			}
			if err := sdkguest.Build(cmd.Context(), abs, out); err != nil {
				return err
			}
			st, err := os.Stat(out)
			if err != nil {
				return err
			}
			if a.output == "json" {
				_, err := fmt.Fprintf(a.stdout, "{\"file\":%q,\"size\":%d}\n", out, st.Size())
				return err
			}
			_, err = fmt.Fprintf(a.stdout, "built %s (%s)\n", out, sizeOf(uint64(st.Size())))
			return err
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "", "the file to write (default DIR/NAME.wasm)")
	return c
}
