package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stamp tells versions of a file apart without reading it.
type stamp struct {
	size     int64
	modified time.Time
}

// stamps are the files of a project, by their paths in it.
type stamps map[string]stamp

// stampsOf looks at all files below dir but for what builds leave there, and at more, which may lie anywhere or not be there. It is
// asked again and again rather than told by the operating system: that works everywhere, and projects are small.
func stampsOf(dir string, more ...string) (stamps, error) {
	all := stamps{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil // it went away meanwhile
		}
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case path == dir:
		case d.IsDir() && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "target" || name == "build"):
			return filepath.SkipDir
		case d.Type().IsRegular() && !strings.HasPrefix(name, ".") && filepath.Ext(name) != ".wasm":
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			all.add(rel, path)
		}
		return nil
	})
	for _, path := range more {
		all.add(path, path)
	}
	return all, err
}

func (s stamps) add(name, path string) {
	if info, err := os.Stat(path); err == nil {
		s[name] = stamp{size: info.Size(), modified: info.ModTime()}
	}
}

// changed names what is new, different or gone in now, sorted.
func (s stamps) changed(now stamps) []string {
	names := map[string]bool{}
	for name, is := range now {
		if was, ok := s[name]; !ok || was.size != is.size || !was.modified.Equal(is.modified) {
			names[name] = true
		}
	}
	for name := range s {
		if _, ok := now[name]; !ok {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// fewOf names some of many.
func fewOf(names []string) string {
	const few = 3
	if len(names) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}
