package main

import (
	"strings"

	"github.com/spf13/pflag"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// grantFlags say what a version may do beyond computing.
type grantFlags struct {
	config, secrets, http, private, calls, files, writes []string
	cache                                                bool
}

func (g *grantFlags) register(f *pflag.FlagSet) {
	f.StringArrayVar(&g.config, "config", nil, "a setting the functions can read, NAME=VALUE; may be repeated")
	f.StringArrayVar(&g.secrets, "allow-secret", nil, "a secret the functions can read, by its name; may be repeated")
	f.StringArrayVar(&g.http, "allow-http", nil, "a host the functions may send requests to, HOST or HOST=GET,POST (default GET and HEAD); *.HOST is all below it; may be repeated")
	f.StringArrayVar(&g.private, "allow-http-private", nil, "like --allow-http, at addresses that are not public, too; may be repeated")
	f.StringArrayVar(&g.calls, "allow-call", nil, "a function the functions may call, SERVICE/FUNCTION or SERVICE/*; may be repeated")
	f.StringArrayVar(&g.files, "allow-files", nil, "a folder of the node the functions may read, PATH=FOLDER, with the path they see; may be repeated")
	f.StringArrayVar(&g.writes, "allow-files-write", nil, "like --allow-files, for reading and changing; may be repeated")
	f.BoolVar(&g.cache, "allow-cache", false, "let the functions use the memory that the service shares on a node")
}

// capabilities answers nil where nothing was asked for.
func (g *grantFlags) capabilities() (*wattlev1.Capabilities, error) {
	c := &wattlev1.Capabilities{Calls: g.calls, Cache: g.cache, Secrets: g.secrets}
	for _, s := range g.config {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, usage("--config %s: want NAME=VALUE", s)
		}
		if c.Config == nil {
			c.Config = map[string]string{}
		}
		if _, twice := c.Config[name]; twice {
			return nil, usage("--config %s is given twice", name)
		}
		c.Config[name] = value
	}
	for i, list := range [][]string{g.http, g.private} {
		for _, s := range list {
			host, methods, some := strings.Cut(s, "=")
			h := &wattlev1.HTTPGrant{Host: host, Private: i == 1}
			if some {
				for _, m := range strings.Split(methods, ",") {
					h.Methods = append(h.Methods, strings.ToUpper(strings.TrimSpace(m)))
				}
			}
			c.Http = append(c.Http, h)
		}
	}
	for i, list := range [][]string{g.files, g.writes} {
		for _, s := range list {
			path, dir, ok := strings.Cut(s, "=")
			if !ok {
				return nil, usage("%s %s: want PATH=FOLDER", []string{"--allow-files", "--allow-files-write"}[i], s)
			}
			c.Files = append(c.Files, &wattlev1.FilesGrant{Path: path, Dir: dir, Write: i == 1})
		}
	}
	if len(c.Config)+len(c.Http)+len(c.Calls)+len(c.Files)+len(c.Secrets) == 0 && !c.Cache {
		return nil, nil
	}
	return c, nil
}
