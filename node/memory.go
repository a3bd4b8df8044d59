package node

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// leastGuestMemory is what guests get on machines that are small or do not say how large they are.
const leastGuestMemory = 1 << 30

// machineMemory is what this process may use, in bytes, or 0 where the system does not tell.
func machineMemory() uint64 {
	total := uint64(0)
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
			if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "MemTotal:" {
				kib, _ := strconv.ParseUint(f[1], 10, 64)
				total = kib << 10
			}
		}
	}
	// A control group may allow less; "max" is no number.
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if b, err := os.ReadFile(file); err == nil {
			if most, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil && (total == 0 || most < total) {
				total = most
			}
		}
	}
	return total
}
