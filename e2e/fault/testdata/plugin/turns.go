package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// turns returns actions for two plugins at the same time.
func turns() map[string]func(dir string) error {
	hold := func(name string, how int) func(string) error {
		return func(dir string) error {
			file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				return err
			}
			for range 1000 {
				if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|how); !errors.Is(err, syscall.EWOULDBLOCK) {
					break
				}
				time.Sleep(time.Millisecond)
			}
			held = append(held, file)
			return err
		}
	}
	return map[string]func(dir string) error{
		"hold-one": hold("one", 0), "hold-two": hold("two", 0), "poll-one": hold("one", syscall.LOCK_NB),
		// It counts the calls in a file, with a window between look and use.
		"count": func(dir string) error {
			name, count := filepath.Join(dir, "count"), 0
			text, err := os.ReadFile(name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			_, _ = fmt.Sscan(string(text), &count)
			return os.WriteFile(name, []byte(fmt.Sprint(count+1)), 0o600)
		},
		"serve": serve,
	}
}

// held keeps locks until the end.
var held []*os.File

// serve is a daemon: it answers each request, on a thread of its own, with how many there were, by a file.
func serve(dir string) error {
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			if n, _ := conn.Read(make([]byte, 1)); n == 0 {
				return
			}
			name, count := filepath.Join(dir, "served"), 0
			text, err := os.ReadFile(name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				fmt.Fprint(conn, err)
				return
			}
			_, _ = fmt.Sscan(string(text), &count)
			err = os.WriteFile(name, fmt.Append(nil, count+1), 0o600)
			fmt.Fprint(conn, count+1, err)
		}()
	}
}
