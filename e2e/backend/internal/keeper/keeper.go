// Package keeper implements the process that serves a run on a machine that already exists, such as a virtual machine
// or a server: it stores the binaries that the run needs, starts agents, and restores the machine's network.
//
// A backend starts a keeper on each machine for a whole run, and talks to it over one connection: its standard input
// and output carry many streams, one for each agent, one for each file, and one for requests. When its input ends, the
// keeper ends every agent, and with it everything that agents started, and restores the network. So nothing stays
// behind if the harness is killed or the connection breaks. Nothing that agents write reaches the machine's disk; only
// the keeper's own directory stays (Dir).
//
// It is not for machines on which others work at the same time: it attributes every change in the network to the run.
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

// The purposes of streams.
const (
	requests = "requests"
	anAgent  = "agent"
	aFile    = "file"
)

// header is the first line of a stream.
type header struct {
	For string `json:"for"`
	// Hostname and Binds belong to an agent.
	Hostname string       `json:"hostname,omitempty"`
	Binds    []netns.Bind `json:"binds,omitempty"`
	// Sum belongs to a file, whose compressed content follows.
	Sum string `json:"sum,omitempty"`
}

const (
	// lossAfter is the silence after which the other side counts as gone. An emulated and busy machine can be slow.
	lossAfter = 20 * time.Second
	// pingEvery is the interval between pings of the other side.
	pingEvery = 5 * time.Second
)

// sessionConfig returns the configuration of both sides. Each side notices by itself when the other one is gone, since
// the end of a broken connection may never be reported.
func sessionConfig() *yamux.Config {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive, config.KeepAliveInterval, config.ConnectionWriteTimeout = true, pingEvery, lossAfter
	config.StreamOpenTimeout, config.StreamCloseTimeout = lossAfter, lossAfter
	config.LogOutput = io.Discard
	return config
}

// Options are the settings with which a machine's keeper starts.
type Options struct {
	// Dir is the directory for binaries. The backend has made it.
	Dir string
	// Command starts an agent, like netns.Backend.Command.
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

// Main serves a connection until it ends, or until the process is told to end, and then restores the machine. Its error
// names what failed or could not be restored.
func Main(conn io.ReadWriteCloser, options Options) error {
	// The process that started this one may end before the machine is restored.
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
			break // the stream's end
		}
		go k.serve(stream)
	}
	k.mu.Lock()
	k.ended = true
	k.mu.Unlock()
	k.endAgents()
	// Closing waits for a read of the input, which may never return if the connection broke.
	go func() { _ = session.Close() }()
	left, err := k.network.restore(ctx, nil)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("the network is not as it was: %s", strings.Join(left, "; "))
	}
	return err
}

// lock makes sure that no other run uses the machine: each would attribute the other's changes to itself.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// The keeper of another run may still be restoring the machine.
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

// buffered is a stream that was partly read ahead.
type buffered struct {
	io.Reader
	io.WriteCloser
}

// runAgent starts an agent whose input and output are the stream, and waits until one of them ends. All processes of
// the agent end with it.
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
		// Kill it: an agent that hangs would not end by itself.
		_ = errors.Join(outside.Close(), cmd.Process.Kill())
	}()
	// The harness learns from the end of the stream how it ended.
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

// rpcName is the service name of requests.
const rpcName = "Keeper"

// Server answers requests. Its exported methods may be called concurrently.
type Server struct{ *keeper }

// Links lists the machine's interfaces.
func (s *Server) Links(_ agent.None, links *[]agent.Link) error {
	return new(agent.Server).Links("", links)
}

// Missing returns the sums for which there is no file.
func (s *Server) Missing(sums []string, missing *[]string) error {
	*missing = s.store.missing(sums)
	return nil
}

// DirectoryArgs are the files of a directory.
type DirectoryArgs struct {
	// Files contains sums by name, and Keep the sums of further files that may be needed later. All other files are
	// removed.
	Files map[string]string `json:"files"`
	Keep  []string          `json:"keep"`
}

// Directory makes a directory of existing files, by name, and returns its path.
func (s *Server) Directory(args DirectoryArgs, dir *string) (err error) {
	*dir, err = s.store.directory(args.Files, args.Keep)
	return err
}

// RestoreArgs are the arguments of Restore.
type RestoreArgs struct {
	// Networks are networks whose connections and neighbours the kernel must forget: the next pods get the addresses of
	// the previous ones.
	Networks []string `json:"networks"`
}

// Restore ends all agents, restores the network to the state in which the keeper found it, and returns the differences
// that remain, one per line.
func (s *Server) Restore(args RestoreArgs, left *[]string) error {
	networks, err := parseNetworks(args.Networks)
	if err != nil {
		return err
	}
	s.endAgents()
	differs, err := s.network.restore(context.Background(), networks)
	// An empty list must not be nil: net/rpc takes null for no answer.
	*left = append([]string{}, differs...)
	return err
}

// failsWithin is the time in which a program of Run must fail for its error to be reported.
const failsWithin = 2 * time.Second

// Run runs a program on the machine itself, not on a node. It reports a failure only if the program fails at once; it
// does not wait for its end.
func (s *Server) Run(argv []string, _ *agent.None) error {
	// Use a file, not a pipe: with a pipe, Wait would also wait for the program's own children.
	output, err := os.CreateTemp(s.options.Dir, "output-")
	if err != nil {
		return err
	}
	defer output.Close()
	// The file stays open and readable. It is removed now, since the program may end this process, as a reboot does.
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

// BootID returns an ID that changes with each boot of the machine.
func (s *Server) BootID(_ agent.None, id *string) error {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	*id = strings.TrimSpace(string(text))
	return err
}
