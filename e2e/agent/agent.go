// Package agent is the process on a node: it runs plugins, makes and enters the namespaces of pods, sends and answers
// probes and takes snapshots. A backend only decides how an agent is started on its nodes; everything else is the same
// code.
//
// Requests and replies are JSON-RPC over the agent's standard input and output, many at the same time. The agent ends
// when its input ends, so that it ends when the harness is killed or the connection is cut. Its standard error is for
// people.
//
// Run its tests: sudo go test ./e2e/agent
package agent

import (
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"sync"

	"github.com/cnitest/cnitest/e2e/fault"
	"github.com/cnitest/cnitest/e2e/lab/dhcp"
	"github.com/cnitest/cnitest/e2e/lab/event"
	"github.com/cnitest/cnitest/e2e/lab/kubeproxy"
	"github.com/cnitest/cnitest/e2e/machinetime"
	"github.com/cnitest/cnitest/e2e/metadata"
	"github.com/cnitest/cnitest/e2e/probe"
	"github.com/cnitest/cnitest/e2e/snapshot"
)

// rpcName is the name under which the server's methods are called.
const rpcName = "Agent"

// Options describe the node on which an agent runs.
type Options struct {
	// Files are the file trees that are part of a snapshot of the node.
	Files []snapshot.FileTree
	// Kinds are the kinds of a snapshot whose caller names none; empty means all.
	Kinds []string
}

// Server is the agent's side. Its exported methods are the requests; they may be made concurrently.
type Server struct {
	options Options
	order   order

	controlled sync.Once
	bare       *probe.Control // use control

	installed []string // the directories of Install; mu guards it
	running
}

// production is what happens on a node besides plugins.
type production struct {
	node  *event.Node      // nil before RememberNode
	proxy *kubeproxy.Proxy // nil unless kube-proxy itself programs services
}

// running has what an agent has started and not ended.
type running struct {
	mu        sync.Mutex
	nextID    int
	listeners map[string][]*probe.Listener // by namespace
	flows     map[int]flow
	captures  map[int]*probe.Capture
	traps     map[int]*probe.Trap
	watches   map[int]*watch
	daemons   map[string]*daemon
	metadata  *metadata.Service
	dhcp      *dhcp.Server
	production
	traced
}

// traced has what tracers know that outlives a request.
type traced struct {
	log      *fault.Log   // what recorded programs did with files; nil before the first
	attended *attended    // the daemon that runs under the tracer; nil if none does
	held     *fault.Watch // the plugin of the last Hold
}

// Serve answers requests until conn ends. It does not wait for requests that still run then: the harness that sent them
// is gone, and what an agent started on its node must end with it.
func Serve(conn io.ReadWriteCloser, options Options) error {
	s := &Server{options: options, running: running{
		listeners: map[string][]*probe.Listener{},
		flows:     map[int]flow{},
		captures:  map[int]*probe.Capture{},
		traps:     map[int]*probe.Trap{},
		watches:   map[int]*watch{},
		daemons:   map[string]*daemon{},
	}}
	defer s.killDaemons()
	machinetime.Process() // from now on it is known how late this process is
	server := rpc.NewServer()
	if err := server.RegisterName(rpcName, s); err != nil {
		return err
	}
	input := &input{ReadWriteCloser: conn, ended: make(chan struct{})}
	go server.ServeCodec(jsonrpc.NewServerCodec(input))
	<-input.ended
	return nil
}

// input reports its end. The codec has one reader.
type input struct {
	io.ReadWriteCloser
	ended chan struct{}
	once  sync.Once
}

// Read reads until the first error, which is the end.
func (i *input) Read(p []byte) (int, error) {
	n, err := i.ReadWriteCloser.Read(p)
	if err != nil {
		i.once.Do(func() { close(i.ended) })
	}
	return n, err
}

// Pipe joins an input and an output to a connection.
type Pipe struct {
	io.ReadCloser
	io.WriteCloser
}

// Close closes both ends.
func (p Pipe) Close() error {
	err := p.WriteCloser.Close()
	if rerr := p.ReadCloser.Close(); err == nil {
		err = rerr
	}
	return err
}

// None is the argument or the reply of a request that has none.
type None struct{}
