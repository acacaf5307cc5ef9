// Command relay runs this repository's ipamd for the plugin of amazon-vpc-cni-k8s in versions before v1.23, which asks
// its daemon on 127.0.0.1:50051; ipamd serves a unix socket only. Nobody else has a use for it.
//
//	relay SOCKET PROGRAM ARGUMENTS...
//
// It starts the program, which ends with it, and hands each connection on to the socket.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

// address is where amazon's plugin expects its daemon (cmd/routed-eni-cni-plugin, ipamdAddress).
const address = "127.0.0.1:50051"

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: relay SOCKET PROGRAM ARGUMENTS...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
}

func run(socket string, command []string) error {
	runtime.LockOSThread()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// The signal of the parent's death comes when the thread ends that started the program.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go handOn(conn, socket)
		}
	}()
	return cmd.Wait()
}

// handOn copies in both directions until the daemon closes its end.
func handOn(conn net.Conn, socket string) {
	defer conn.Close()
	daemon, err := net.Dial("unix", socket)
	if err != nil {
		return // the plugin sees that the connection ends
	}
	defer daemon.Close()
	go func() {
		_, _ = io.Copy(daemon, conn)
		_ = daemon.(*net.UnixConn).CloseWrite()
	}()
	_, _ = io.Copy(conn, daemon)
}
