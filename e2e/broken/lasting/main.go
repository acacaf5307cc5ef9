// Command lasting runs upstream's DHCP daemon and remembers its leases on disk: it is a control on which `make test`
// runs the scenario dhcp-daemon-restart, and passes it. Never install it.
//
//	lasting SOCKET DIRECTORY DHCP-FLAGS...
//
// It serves the protocol of the daemon on SOCKET and forwards each request to a `dhcp daemon` of its own. It stores
// each lease in DIRECTORY and asks for it again when it starts.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/rpc"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// startWithin is how long the daemon may take to listen.
const startWithin = 5 * time.Second

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: lasting SOCKET DIRECTORY DHCP-FLAGS...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "lasting:", err)
		os.Exit(1)
	}
}

func run(socket, directory string, flags []string) error {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	inner := socket + ".inner"
	cmd := exec.Command("dhcp", append([]string{"daemon", "-socketpath", inner}, flags...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	keeper := &DHCP{inner: inner, directory: directory}
	if err := keeper.restore(); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	if err := rpc.Register(keeper); err != nil {
		return err
	}
	rpc.HandleHTTP()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() { _ = http.Serve(listener, nil) }()
	<-ended
	return errors.Join(listener.Close(), cmd.Process.Signal(syscall.SIGTERM), cmd.Wait())
}

// DHCP has the name and the methods of upstream's daemon. Its methods may be called concurrently.
type DHCP struct {
	inner, directory string
}

// Allocate has the daemon lease an address, and remembers for whom.
func (d *DHCP) Allocate(args *skel.CmdArgs, result *current.Result) error {
	if err := d.call("DHCP.Allocate", args, result); err != nil {
		return err
	}
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	return os.WriteFile(d.path(args), text, 0o600)
}

// Release has the daemon release a lease, and forgets it.
func (d *DHCP) Release(args *skel.CmdArgs, _ *struct{}) error {
	if err := d.call("DHCP.Release", args, &struct{}{}); err != nil {
		return err
	}
	if err := os.Remove(d.path(args)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// restore waits for the daemon and has it lease again what is stored.
func (d *DHCP) restore() error {
	deadline := time.Now().Add(startWithin)
	for {
		conn, err := net.Dial("unix", d.inner)
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	stored, err := filepath.Glob(filepath.Join(d.directory, "*.json"))
	if err != nil {
		return err
	}
	for _, path := range stored {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var args skel.CmdArgs
		if err := json.Unmarshal(text, &args); err != nil {
			return err
		}
		if err := d.call("DHCP.Allocate", &args, &current.Result{}); err != nil {
			return fmt.Errorf("lease again for %s: %w", args.ContainerID, err)
		}
	}
	return nil
}

func (d *DHCP) call(method string, args *skel.CmdArgs, reply any) error {
	client, err := rpc.DialHTTP("unix", d.inner)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Call(method, args, reply)
}

func (d *DHCP) path(args *skel.CmdArgs) string {
	sum := sha256.Sum256([]byte(args.ContainerID + "/" + args.IfName))
	return filepath.Join(d.directory, hex.EncodeToString(sum[:8])+".json")
}
