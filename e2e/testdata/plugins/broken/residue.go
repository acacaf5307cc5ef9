package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// store is where the plugin keeps files on the node.
const store = "/var/lib/broken"

func write(name string) error {
	if err := os.MkdirAll(store, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(store, name), nil, 0o644)
}

// lingering is the argument with which the plugin stays.
const lingering = "linger"

func linger(*call) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, lingering)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}
