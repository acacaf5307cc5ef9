package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cnitest/cnitest/plugin/ipamd/internal/cloud"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/datastore"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/imdstest"
	"github.com/cnitest/cnitest/plugin/ipamd/internal/server"
	"github.com/cnitest/cnitest/plugin/ipamd/rpc"
)

// The test binary, started by itself with one of these arguments, is the daemon, or a daemon with a fault.
const (
	childDaemon    = "daemon"
	childForgetful = "daemon-that-replies-before-it-writes"
	childLate      = "daemon-that-writes-once-it-is-told-to-end"
)

var kills = flag.Int("kills", 500, "how often TestKill kills the daemon")

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{childDaemon, childForgetful, childLate}, os.Args[1]) {
		os.Exit(child(os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

func child(kind string, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if kind == childDaemon {
		return execute(ctx, args, os.Stdout, os.Stderr)
	}
	cmd := command(args, func(cfg Config) error {
		d, err := newDaemon(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		d.commits = map[string]server.Committer{
			childForgetful: &forgetful{d: d}, childLate: late{d.commits, ctx.Done()},
		}[kind]
		return d.run(ctx)
	})
	cmd.SetArgs(args)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// forgetful writes the state only when nobody waits for it any more.
type forgetful struct {
	d  *daemon
	mu sync.Mutex
}

func (f *forgetful) Commit(context.Context, uint64) error {
	time.AfterFunc(2*time.Millisecond, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		snapshot, _ := f.d.store.Snapshot()
		_ = f.d.file.Save(snapshot)
	})
	return nil
}

// late writes the state some time after the daemon is told to end.
type late struct {
	server.Committer
	told <-chan struct{}
}

func (l late) Commit(ctx context.Context, version uint64) error {
	<-l.told
	time.Sleep(200 * time.Millisecond) // like a slow disk: a daemon that does not wait has ended by then
	return l.Committer.Commit(ctx, version)
}

// lab is a metadata service and a directory for a daemon's files.
type lab struct {
	t       testing.TB
	service *imdstest.Service
	url     string
	dir     string
}

func newLab(t testing.TB) *lab {
	t.Helper()
	service := &imdstest.Service{}
	service.Set(inventory("10.0.0.16/28", "10.0.1.16/28"))
	server := httptest.NewServer(service)
	t.Cleanup(server.Close)
	return &lab{t: t, service: service, url: server.URL, dir: t.TempDir()}
}

// inventory returns an inventory with one ENI per prefix.
func inventory(prefixes ...string) cloud.Inventory {
	inv := cloud.Inventory{
		InstanceID: "i-1", InstanceType: "t3.small", Region: "eu-central-1",
		VPC: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")},
	}
	for device, prefix := range prefixes {
		inv.ENIs = append(inv.ENIs, cloud.ENI{
			ID: fmt.Sprintf("eni-%d", device), MAC: fmt.Sprintf("02:00:00:00:00:1%d", device), Device: device,
			Subnet:   netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(device), 0}), 24),
			Address:  netip.AddrFrom4([4]byte{10, 0, byte(device), 10}),
			Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)},
		})
	}
	return inv
}

func (l *lab) socket() string        { return filepath.Join(l.dir, "ipamd.sock") }
func (l *lab) state() string         { return filepath.Join(l.dir, "state.json") }
func (l *lab) introspection() string { return filepath.Join(l.dir, "introspection.sock") }

// args returns the arguments of a daemon in the lab, which does not change the kernel.
func (l *lab) args(more ...string) []string {
	return append([]string{
		"--kernel=false", "--metadata-endpoint", l.url, "--socket", l.socket(), "--state", l.state(), "--introspection",
		l.introspection(),
		"--allowed-users", fmt.Sprint(os.Getuid()),
	}, more...)
}

// process is a running daemon.
type process struct {
	*exec.Cmd
	output *log
}

// log is the output of a process, which can be read while it runs.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lab) start(kind string, args ...string) *process {
	l.t.Helper()
	p := &process{exec.Command(os.Args[0], append([]string{kind}, args...)...), &log{}}
	p.Stdout, p.Stderr = p.output, p.output
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// connect waits until the daemon answers.
func (l *lab) connect(p *process) *grpc.ClientConn {
	l.t.Helper()
	l.eventually("the daemon answers: "+p.output.String(), func() bool {
		conn, err := net.Dial("unix", l.socket())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	conn, err := grpc.NewClient("unix://"+l.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		l.t.Fatal(err)
	}
	return conn
}

// patience limits how long a test waits for something that does not happen. No verdict depends on it.
const patience = 2 * time.Minute

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("want that %s", what)
		}
	}
}

// get requests a path of the introspection.
func (l *lab) get(path string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string,
		string,
	) (net.Conn, error) {
		return net.Dial("unix", l.introspection())
	}}}
	response, err := client.Get("http://ipamd" + path)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	return string(raw), err
}

// assignments asks the daemon for all assignments.
func (l *lab) assignments() []datastore.Assigned {
	l.t.Helper()
	text, err := l.get("/v1/assignments")
	if err != nil {
		l.t.Fatal(err)
	}
	var all []datastore.Assigned
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&all); err != nil {
		l.t.Fatalf("%v: %s", err, text)
	}
	return all
}

func add(container string) *rpc.AddNetworkRequest {
	return &rpc.AddNetworkRequest{NetworkName: "net", ContainerID: container, IfName: "eth0"}
}

func del(container string) *rpc.DelNetworkRequest {
	return &rpc.DelNetworkRequest{NetworkName: "net", ContainerID: container, IfName: "eth0"}
}
