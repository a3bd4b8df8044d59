package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/wattlehq/wattle/dag"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

func (a *app) service() *cobra.Command {
	c := &cobra.Command{Use: "service", Short: "List, show, remove, alias and balance services"}
	c.AddCommand(
		&cobra.Command{
			Use: "ls", Short: "List the services", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				res, err := a.client().Registry.ListServices(cmd.Context(), connect.NewRequest(&wattlev1.ListServicesRequest{}))
				if err != nil {
					return err
				}
				return a.print(res.Msg, func(w io.Writer) {
					table(w, "SERVICE\tVERSIONS\tALIASES\tFUNCTIONS", func(row func(...any)) {
						for _, s := range res.Msg.Services {
							var newest *wattlev1.Version // none where all were removed
							if n := len(s.Versions); n > 0 {
								newest = s.Versions[n-1]
							}
							row(s.Name, len(s.Versions), aliases(s), functions(newest))
						}
					})
				})
			},
		},
		&cobra.Command{
			Use: "get NAME", Short: "Show a service with its versions", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				res, err := a.client().Registry.GetService(cmd.Context(), connect.NewRequest(&wattlev1.GetServiceRequest{Name: args[0]}))
				if err != nil {
					return err
				}
				return a.print(res.Msg.Service, func(w io.Writer) { printService(w, res.Msg.Service) })
			},
		},
		&cobra.Command{
			Use: "rm NAME[@VERSION]", Short: "Remove a service, or one version of it", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				name, v, one := strings.Cut(args[0], "@")
				if !one {
					_, err := a.client().Registry.DeleteService(cmd.Context(), connect.NewRequest(&wattlev1.DeleteServiceRequest{Name: name}))
					return err
				}
				n, err := strconv.ParseUint(v, 10, 64)
				if err != nil {
					return usage("%q is no version number", v)
				}
				_, err = a.client().Registry.DeleteVersion(cmd.Context(), connect.NewRequest(&wattlev1.DeleteVersionRequest{Service: name, Number: n}))
				return err
			},
		},
		a.alias(),
		a.balance(),
	)
	return c
}

func (a *app) alias() *cobra.Command {
	var remove bool
	c := &cobra.Command{
		Use: "alias NAME ALIAS [VERSION]", Short: "Point an alias at a version, or remove it; the alias \"default\" is what calls get that name none",
		Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := a.client().Registry
			if remove {
				if len(args) != 2 {
					return usage("--rm takes no version")
				}
				_, err := r.DeleteAlias(cmd.Context(), connect.NewRequest(&wattlev1.DeleteAliasRequest{Service: args[0], Alias: args[1]}))
				return err
			}
			if len(args) != 3 {
				return usage("say which version, or --rm to remove the alias")
			}
			n, err := strconv.ParseUint(args[2], 10, 64)
			if err != nil {
				return usage("%q is no version number", args[2])
			}
			res, err := r.SetAlias(cmd.Context(), connect.NewRequest(&wattlev1.SetAliasRequest{Service: args[0], Alias: args[1], Number: n}))
			if err != nil {
				return err
			}
			return a.print(res.Msg.Service, func(w io.Writer) { fmt.Fprintf(w, "%s@%s is version %d\n", args[0], args[1], n) })
		},
	}
	c.Flags().BoolVar(&remove, "rm", false, "remove the alias")
	return c
}

func aliases(s *wattlev1.Service) string {
	var out []string
	for _, n := range slices.Sorted(maps.Keys(s.Aliases)) {
		out = append(out, fmt.Sprintf("%s=%d", n, s.Aliases[n]))
	}
	return strings.Join(out, ",")
}

func functions(v *wattlev1.Version) string {
	var out []string
	for _, f := range v.GetFunctions() {
		out = append(out, f.Name)
	}
	return strings.Join(out, ",")
}

// mayDo says what a version was granted.
func mayDo(c *wattlev1.Capabilities) (out []string) {
	if n := len(c.GetConfig()); n > 0 {
		out = append(out, "read the settings "+strings.Join(slices.Sorted(maps.Keys(c.Config)), ", "))
	}
	if len(c.GetSecrets()) > 0 {
		out = append(out, "read the secrets "+strings.Join(c.Secrets, ", "))
	}
	for _, h := range c.GetHttp() {
		methods, where := "GET, HEAD", ""
		if len(h.Methods) > 0 {
			methods = strings.Join(h.Methods, ", ")
		}
		if h.Private {
			where = ", at any address"
		}
		out = append(out, fmt.Sprintf("send requests to %s (%s%s)", h.Host, methods, where))
	}
	if len(c.GetCalls()) > 0 {
		out = append(out, "call "+strings.Join(c.Calls, ", "))
	}
	if c.GetCache() {
		out = append(out, "use the memory the service shares on a node")
	}
	for _, f := range c.GetFiles() {
		verb := "read"
		if f.Write {
			verb = "read and change"
		}
		out = append(out, fmt.Sprintf("%s %s as %s", verb, f.Dir, f.Path))
	}
	return out
}

// instances says where the version's calls run.
func instances(v *wattlev1.Version) string {
	switch {
	case v.Fresh:
		return "a fresh instance for each call, as asked for"
	case v.FreshReason != "":
		return "a fresh instance for each call: " + plain(v.FreshReason)
	}
	return "warm instances, put back to a clean state after each call"
}

// limits says which were set.
func limits(l *wattlev1.Limits) string {
	var out []string
	for _, x := range []struct {
		what string
		n    uint64
	}{{"memory", l.GetMemoryBytes()}, {"output", l.GetOutputBytes()}, {"log", l.GetLogBytes()}, {"call stack", l.GetStackBytes()}} {
		if x.n > 0 {
			out = append(out, x.what+" "+sizeOf(x.n))
		}
	}
	if l.GetTimeout().AsDuration() > 0 {
		out = append(out, "time "+l.Timeout.AsDuration().String())
	}
	if l.GetFuel() > 0 {
		out = append(out, fmt.Sprintf("fuel %d", l.Fuel))
	}
	if l.GetConcurrency() > 0 {
		out = append(out, fmt.Sprintf("%d at a time", l.Concurrency))
	}
	return strings.Join(out, ", ")
}

func printService(w io.Writer, s *wattlev1.Service) {
	fmt.Fprintf(w, "service %s, revision %d\n", s.Name, s.Revision)
	if len(s.Aliases) > 0 {
		fmt.Fprintf(w, "aliases %s\n", aliases(s))
	}
	fmt.Fprintf(w, "balance %s\n", balanceOf(s.Balance))
	for _, v := range s.Versions {
		fmt.Fprintf(w, "\nversion %d, %s, %s, pushed %s\n  %s\n", v.Number, v.Abi, sizeOf(v.Size), since(v.CreatedAt.AsTime()), v.Digest)
		fmt.Fprintf(w, "  %s\n", instances(v))
		if l := limits(v.Limits); l != "" {
			fmt.Fprintf(w, "  limits %s\n", l)
		}
		for _, may := range mayDo(v.Capabilities) {
			fmt.Fprintf(w, "  may %s\n", plain(may))
		}
		for _, f := range v.Functions {
			fmt.Fprintf(w, "  %-8s %s  %s\n", dag.KindName(f.Kind), f.Name, plain(f.Description))
		}
		printLeftOut(w, v)
	}
}

// printLeftOut says which exports of a version are not among its functions.
func printLeftOut(w io.Writer, v *wattlev1.Version) {
	for _, l := range v.LeftOut {
		fmt.Fprintf(w, "  left out %s\n", plain(l))
	}
}
