package sim

import (
	"maps"
	"time"
)

// Kinds are the names that Config.Off takes: of faults, and of load.
func Kinds() []string {
	all := []string{"lose", "double", "delay", "slow", "unlucky", "skew", "effects", "tasks", "move", "controller", "aliases", "jobs", "lists"}
	for _, k := range kinds {
		all = append(all, k.name)
	}
	return all
}

// Shrink looks for a smaller run that fails as well, perhaps in another way: with fewer kinds of faults and load, and with faults
// for a shorter time. cfg must fail.
func Shrink(cfg Config) Config {
	if cfg.Faults == 0 {
		cfg.Faults = DefaultFaults
	}
	fails := func(c Config) bool { return Run(c).Err != nil }
	for smaller := true; smaller; {
		smaller = false
		for _, k := range Kinds() {
			c := cfg
			if c.Off = maps.Clone(cfg.Off); c.Off == nil {
				c.Off = map[string]bool{}
			}
			if c.Off[k] = true; !cfg.Off[k] && fails(c) {
				cfg, smaller = c, true
			}
		}
		for step := cfg.Faults / 2; step >= 100*time.Millisecond; step /= 2 {
			c := cfg
			if c.Faults -= step; fails(c) {
				cfg, smaller = c, true
			}
		}
	}
	return cfg
}
