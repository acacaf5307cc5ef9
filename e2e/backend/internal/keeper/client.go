package keeper

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"strings"

	"github.com/hashicorp/yamux"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/netns"
)

// Client is the harness's side of a keeper. Its methods may be called concurrently.
type Client struct {
	name    string
	session *yamux.Session
	rpc     *rpc.Client
}

// ErrLost is the error of a request to a machine that does not answer any more.
var ErrLost = errors.New("the connection is lost")

// NewClient returns a client of the keeper at the other end of conn. Errors begin with name.
func NewClient(name string, conn io.ReadWriteCloser) (*Client, error) {
	session, err := yamux.Client(conn, sessionConfig())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := &Client{name: name, session: session}
	stream, err := c.open(header{For: requests})
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	c.rpc = rpc.NewClientWithCodec(jsonrpc.NewClientCodec(stream))
	return c, nil
}

// Close ends the connection. The keeper then ends, too, some time later.
func (c *Client) Close() error { return errors.Join(c.rpc.Close(), c.session.Close()) }

// Lost returns the reason why the machine does not answer any more, or nil while it does.
func (c *Client) Lost() error {
	if c.session.IsClosed() {
		return fmt.Errorf("%s: %w", c.name, ErrLost)
	}
	return nil
}

// Alive asks the keeper for an answer, and returns the error if there is none. It takes lossAfter at most.
func (c *Client) Alive() error {
	if _, err := c.session.Ping(); err != nil {
		return fmt.Errorf("%s: %w", c.name, ErrLost)
	}
	return nil
}

// Ended returns a channel that is closed when the connection ends.
func (c *Client) Ended() <-chan struct{} { return c.session.CloseChan() }

func (c *Client) open(h header) (net.Conn, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	stream, err := c.session.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, ErrLost)
	}
	if _, err := stream.Write(append(line, '\n')); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", c.name, err), stream.Close())
	}
	return stream, nil
}

// Agent starts an agent that sees binds on its root. Errors begin with name. The agent ends when it is closed.
func (c *Client) Agent(name, hostname string, binds []netns.Bind) (*agent.Client, error) {
	stream, err := c.open(header{For: anAgent, Hostname: hostname, Binds: binds})
	if err != nil {
		return nil, err
	}
	return agent.NewClient(name, stream), nil
}

// File is a file for machines.
type File struct {
	// Path is its path on this machine, Sum the SHA-256 sum of its content.
	Path, Sum string
}

// Send sends a file, and returns when the keeper has received it.
func (c *Client) Send(ctx context.Context, f File) error {
	file, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	stream, err := c.open(header{For: aFile, Sum: f.Sum})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = stream.Close() })()
	defer stream.Close()
	// The machine, which may be emulated, takes most of the time. Compressed data leaves it less to decrypt.
	compressed, err := gzip.NewWriterLevel(stream, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err = io.Copy(compressed, file); err == nil {
		err = compressed.Close()
	}
	if err != nil {
		return fmt.Errorf("%s: send %s: %w", c.name, f.Path, err)
	}
	reply, err := bufio.NewReader(stream).ReadString('\n')
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%s: send %s: %w", c.name, f.Path, ErrLost)
	case strings.TrimSpace(reply) != "ok":
		return fmt.Errorf("%s: send %s: %s", c.name, f.Path, strings.TrimSpace(reply))
	}
	return nil
}

func call[Reply any](ctx context.Context, c *Client, method string, args any) (reply Reply, err error) {
	pending := c.rpc.Go(rpcName+"."+method, args, &reply, make(chan *rpc.Call, 1))
	var none Reply
	select {
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w", c.name, context.Cause(ctx))
	case done := <-pending.Done:
		switch {
		case done.Error == nil:
			return reply, nil
		case c.session.IsClosed():
			return none, fmt.Errorf("%s: %w", c.name, ErrLost)
		}
		return none, fmt.Errorf("%s: %w", c.name, done.Error)
	}
}

// Links lists the machine's interfaces.
func (c *Client) Links(ctx context.Context) ([]agent.Link, error) {
	return call[[]agent.Link](ctx, c, "Links", agent.None{})
}

// Missing returns the sums whose files the machine does not have.
func (c *Client) Missing(ctx context.Context, sums []string) ([]string, error) {
	return call[[]string](ctx, c, "Missing", sums)
}

// Directory makes a directory of files that the machine has, by name, and returns its path. It keeps the files with the
// sums in keep, and removes all others.
func (c *Client) Directory(ctx context.Context, files map[string]string, keep []string) (string, error) {
	return call[string](ctx, c, "Directory", DirectoryArgs{Files: files, Keep: keep})
}

// Restore ends all agents and restores the machine's network to the state in which the keeper found it. It makes the
// kernel forget the connections and neighbours of some networks. It returns the differences that remain.
func (c *Client) Restore(ctx context.Context, networks []netip.Prefix) ([]string, error) {
	var args RestoreArgs
	for _, n := range networks {
		args.Networks = append(args.Networks, n.Masked().String())
	}
	return call[[]string](ctx, c, "Restore", args)
}

// Run runs a program on the machine itself. It reports a failure only if the program fails at once; it does not wait
// for its end.
func (c *Client) Run(ctx context.Context, argv []string) error {
	_, err := call[agent.None](ctx, c, "Run", argv)
	return err
}

// BootID returns an ID that changes with each boot of the machine.
func (c *Client) BootID(ctx context.Context) (string, error) {
	return call[string](ctx, c, "BootID", agent.None{})
}
