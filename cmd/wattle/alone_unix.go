//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// alone keeps an interrupt from the terminal from a command, and stops it together with what it started.
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
}
