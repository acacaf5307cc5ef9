package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

const (
	// socket is where the daemon answers, counted the file in which it keeps how often.
	socket  = "/run/unsynced.sock"
	counted = dir + "/daemon.json"
)

// serve is the daemon: it counts the pods that plugins with the key daemon ask it for. Without the word in-place the
// file is on the disk before the answer is out.
func serve(inPlace bool) error {
	count := 0
	data, err := os.ReadFile(counted)
	if err == nil {
		err = json.Unmarshal(data, &count)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", counted, err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(counted), 0o755); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		if n, _ := conn.Read(make([]byte, 1)); n > 0 { // others only look whether it is there
			count++
			err = write(counted, fmt.Append(nil, count), how{inPlace: inPlace})
			if err == nil {
				_, err = conn.Write([]byte("\n"))
			}
		}
		if err = errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
}

// ask asks the daemon, and waits until it has written.
func ask() error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("+")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
