// Package keeper is the process on a machine that is a node already, such as a virtual machine or a server: it keeps
// the binaries that a run needs there, starts agents, and puts the machine's network back to what it found.
//
// A backend starts one on each machine, for the whole of a run, and speaks to it over one connection: its standard
// input and output carry many streams, one for each agent, one for each file, and one for requests. At the end of its
// input the keeper ends every agent, and with it all that agents started, and restores the network, so that whoever
// kills the harness or cuts the connection leaves nothing behind. Nothing that agents write reaches the machine's disk;
// what stays is the keeper's own directory (Dir).
//
// It is not for machines that others work on: what changes in the network during a run is taken for the run's doing.
//
// Run its tests: sudo go test ./e2e/backend/ssh
package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
)

// What a stream is for.
const (
	requests = "requests"
	anAgent  = "agent"
	aFile    = "file"
)

// header is the first line of a stream.
type header struct {
	For string `json:"for"`
	// Hostname and Binds are of an agent.
	Hostname string       `json:"hostname,omitempty"`
	Binds    []netns.Bind `json:"binds,omitempty"`
	// Sum is of a file, which follows compressed.
	Sum string `json:"sum,omitempty"`
}

const (
	// lossAfter is how long the other side may be silent before it counts as gone. A machine that is emulated and busy
	// can be slow.
	lossAfter = 20 * time.Second
	// pingEvery is how often the other side is pinged.
	pingEvery = 5 * time.Second
)

// sessionConfig returns the configuration of both sides: each finds out by itself that the other one is gone, since a
// connection that was cut may never end.
func sessionConfig() *yamux.Config {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive, config.KeepAliveInterval, config.ConnectionWriteTimeout = true, pingEvery, lossAfter
	config.StreamOpenTimeout, config.StreamCloseTimeout = lossAfter, lossAfter
	config.LogOutput = io.Discard
	return config
}

// Options are given to a machine's keeper when it starts.
type Options struct {
	// Dir is the directory in which it keeps binaries; the backend has made it.
	Dir string
	// Command starts an agent, as netns.Backend.Command.
	Command []string
}

// keeper serves one connection.
type keeper struct {
	options Options
	store   *store
	network *network

	mu     sync.Mutex
	agents map[*exec.Cmd]bool
	ended  bool
}

// Main serves on a connection until it ends, or until the process is told to end, and then restores the machine. Its
// error is what could not be done, or not be restored.
func Main(conn io.ReadWriteCloser, options Options) error {
	// Who started it may be gone while it restores.
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	unlock, err := lock(filepath.Join(options.Dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	ctx := context.Background()
	k := &keeper{options: options, store: &store{dir: options.Dir}, agents: map[*exec.Cmd]bool{}}
	if k.network, err = remember(ctx); err != nil {
		return fmt.Errorf("look at the network: %w", err)
	}
	session, err := yamux.Server(conn, sessionConfig())
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-stop
		_ = session.Close()
	}()
	for {
		stream, err := session.Accept()
		if err != nil {
			break // its end
		}
		go k.serve(stream)
	}
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	k.endAgents()
	// It waits for a read of the input to end, which may never end where the connection was cut.
	go func() { _ = session.Close() }()
	left, err := k.network.restore(ctx, nil)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("the network is not as it was: %s", strings.Join(left, "; "))
	}
	return err
}

// lock makes sure that nobody else's run is on the machine: each would take the other's changes for its own.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// Another run's keeper may be restoring the machine.
	for deadline := time.Now().Add(lossAfter); ; time.Sleep(100 * time.Millisecond) {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = file.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, errors.Join(err, file.Close())
		case time.Now().After(deadline):
			return nil, errors.Join(fmt.Errorf("another run uses this machine (%s is locked)", path), file.Close())
		}
	}
}

// serve answers a stream.
func (k *keeper) serve(stream net.Conn) {
	defer stream.Close()
	reader := bufio.NewReader(stream)
	line, err := reader.ReadBytes('\n')
	var h header
	if err == nil {
		err = json.Unmarshal(line, &h)
	}
	switch {
	case err != nil:
	case h.For == requests:
		server := rpc.NewServer()
		if server.RegisterName(rpcName, &Server{k}) == nil {
			server.ServeCodec(jsonrpc.NewServerCodec(buffered{reader, stream}))
		}
		return
	case h.For == anAgent:
		err = k.runAgent(h, reader, stream)
	case h.For == aFile:
		err = k.store.receive(h.Sum, reader)
		reply := "ok"
		if err != nil {
			reply = err.Error()
		}
		_, err = fmt.Fprintln(stream, reply)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// buffered is a stream of which something was read ahead.
type buffered struct {
	io.Reader
	io.WriteCloser
}

// runAgent starts an agent, whose input and output are the stream, and waits for the end of either. Its end is that of
// all its processes.
func (k *keeper) runAgent(h header, input io.Reader, stream net.Conn) error {
	inside, outside, err := os.Pipe()
	if err != nil {
		return err
	}
	k.mu.Lock()
	if k.ended {
		k.mu.Unlock()
		return errors.Join(inside.Close(), outside.Close())
	}
	cmd, err := netns.StartShared(k.options.Command, h.Hostname, h.Binds, inside, stream, os.Stderr)
	if err == nil {
		k.agents[cmd] = true
	}
	k.mu.Unlock()
	_ = inside.Close()
	if err != nil {
		return fmt.Errorf("start agent: %w", errors.Join(err, outside.Close()))
	}
	go func() {
		_, _ = io.Copy(outside, input)
		// An agent that hangs does not get to decide.
		_ = errors.Join(outside.Close(), cmd.Process.Kill())
	}()
	// How it ended is told by the end of the stream.
	_ = cmd.Wait()
	k.mu.Lock()
	delete(k.agents, cmd)
	k.mu.Unlock()
	return nil
}

// endAgents ends all agents and waits until they are gone.
func (k *keeper) endAgents() {
	k.mu.Lock()
	for cmd := range k.agents {
		_ = cmd.Process.Kill()
	}
	k.mu.Unlock()
	for deadline := time.Now().Add(lossAfter); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		k.mu.Lock()
		left := len(k.agents)
		k.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

// rpcName is the name under which requests are made.
const rpcName = "Keeper"

// Server answers requests. Its exported methods may be called concurrently.
type Server struct{ *keeper }

// Links lists the machine's interfaces.
func (s *Server) Links(_ agent.None, links *[]agent.Link) error {
	return new(agent.Server).Links("", links)
}

// Missing returns those of some files, named by their sums, that are to be sent.
func (s *Server) Missing(sums []string, missing *[]string) error {
	*missing = s.store.missing(sums)
	return nil
}

// DirectoryArgs are the files of a directory.
type DirectoryArgs struct {
	// Files are sums by name, and Keep the sums of further files that may be needed later. All others are removed.
	Files map[string]string `json:"files"`
	Keep  []string          `json:"keep"`
}

// Directory makes a directory with files that are there, by name, and returns its path.
func (s *Server) Directory(args DirectoryArgs, dir *string) (err error) {
	*dir, err = s.store.directory(args.Files, args.Keep)
	return err
}

// RestoreArgs say what else to restore with the network.
type RestoreArgs struct {
	// Networks are networks whose connections and neighbours are to be forgotten, too: the next pods get the addresses
	// of the last ones.
	Networks []string `json:"networks"`
}

// Restore ends all agents, puts the network back to how the keeper found it, and returns what differs all the same, a
// line each.
func (s *Server) Restore(args RestoreArgs, left *[]string) error {
	networks, err := parseNetworks(args.Networks)
	if err != nil {
		return err
	}
	s.endAgents()
	differs, err := s.network.restore(context.Background(), networks)
	// Nothing is a list too: net/rpc takes null for no answer.
	*left = append([]string{}, differs...)
	return err
}

// failsWithin is the time within which a program of Run that cannot do its work says so.
const failsWithin = 2 * time.Second

// Run runs a program on the machine itself, not on a node. It does not wait for its end, unless it fails at once.
func (s *Server) Run(argv []string, _ *agent.None) error {
	// Files, unlike pipes, are nothing that the end of the program's own children is waited for.
	output, err := os.CreateTemp(s.options.Dir, "output-")
	if err != nil {
		return err
	}
	defer output.Close()
	// It is read from where it is open, and gone though the program ends this one, as a reboot does.
	if err := os.Remove(output.Name()); err != nil {
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-time.After(failsWithin):
	}
	if err != nil {
		text, _ := io.ReadAll(io.NewSectionReader(output, 0, 1<<16))
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(text)))
	}
	return nil
}

// BootID returns an id that changes with each boot of the machine.
func (s *Server) BootID(_ agent.None, id *string) error {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	*id = strings.TrimSpace(string(text))
	return err
}
