package ssh

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cnitest/cnitest/e2e/agent"
	"github.com/cnitest/cnitest/e2e/backend/internal/keeper"
)

// KeeperCommand is the command of this program that runs on a machine, with the directory of the keeper as its
// argument.
const KeeperCommand = "keeper"

// KeeperMain runs that command: it serves on standard input and output until the input ends. dir is its argument.
// agentCommand starts an agent, like netns.Backend.Command.
func KeeperMain(dir string, agentCommand []string) error {
	return keeper.Main(agent.Pipe{ReadCloser: os.Stdin, WriteCloser: os.Stdout}, keeper.Options{
		Dir: dir, Command: agentCommand,
	})
}

// machine is a machine that ssh reaches, and its keeper.
type machine struct {
	name    string // as in --nodes
	options *Options
	plugins *plugins

	keeper *keeper.Client
	links  []agent.Link

	copying sync.Mutex
	// binDir is the directory of the plugins' binaries on the machine; copied contains their sums by name.
	binDir string
	copied map[string]string

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr *tail
	exited chan struct{} // closed when cmd has ended
}

// connectTimeout limits a login. Copying afterwards has its own limit.
const connectTimeout = 30 * time.Second

// copyTimeout limits the copying of binaries, to an emulated machine over a slow line.
const copyTimeout = 10 * time.Minute

// arguments returns the arguments of ssh. The connection is not shared (ControlPersist), since a shared one would
// outlive this process. ssh asks no questions, since nobody may be there to answer, and notices when the machine is
// gone.
func (o *Options) arguments(destination string) []string {
	args := slices.Clone(o.Program[1:])
	if o.ConfigFile != "" {
		args = append(args, "-F", o.ConfigFile)
	}
	for _, option := range []string{
		"BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=5", "ServerAliveCountMax=4", "ControlMaster=no",
		"ControlPath=none",
		"ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes",
	} {
		args = append(args, "-o", option)
	}
	return append(args, "-T", destination, "exec sh -c '"+bootstrap+"'")
}

// hello is the first word that a machine sends. It distinguishes it from the output of a login shell.
const hello = "cnitest-machine"

// bootstrap runs on the machine. From its input it reads the sum and size of this program for the machine's
// architecture, and the program itself unless the machine has it, and then becomes the keeper. It prints "ready" before
// the input continues, since head may read ahead. The directory is the user's own: others must not be able to write to
// a program that root will run.
const bootstrap = `set -u
dir=${XDG_CACHE_HOME:-$HOME/.cache}/cnitest
mkdir -p "$dir/self" || exit 1
echo "` + hello + ` $(uname -m)"
read -r sum size || exit 1
self=$dir/self/$sum
if [ -x "$self" ]; then
  echo have
else
  echo need
  rm -f "$dir"/self/*
  head -c "$size" | gzip -dc >"$self.new" && chmod 755 "$self.new" && sync "$self.new" &&
    mv "$self.new" "$self" || exit 1
fi
echo ready
[ "$(id -u)" = 0 ] && exec "$self" ` + KeeperCommand + ` "$dir"
exec sudo -n -- "$self" ` + KeeperCommand + ` "$dir"`

// connect logs in, starts the keeper, and sends the files that the machine lacks. It may be called again when a
// connection has ended.
func (m *machine) connect(ctx context.Context) (err error) {
	m.cmd = exec.Command(m.options.Program[0], m.options.arguments(m.name)...)
	// A terminal's interrupt must reach only the harness, which then closes the connection.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	m.stderr = &tail{}
	m.cmd.Stderr = m.stderr
	// Another ssh, to a jump host, shares standard error and may outlive this one.
	m.cmd.WaitDelay = time.Second
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := m.cmd.Start(); err != nil {
		m.cmd = nil
		return fmt.Errorf("%s: %w", m.name, err)
	}
	exited := make(chan struct{})
	m.exited = exited
	cmd := m.cmd
	defer func() {
		if err != nil {
			_ = m.close()
			err = m.explain(err)
		}
	}()
	reader := bufio.NewReader(stdout)
	if err = m.greet(ctx, reader); err != nil {
		go func() { _ = cmd.Wait(); close(exited) }()
		return err
	}
	m.keeper, err = keeper.NewClient(m.name, conn{reader, m.stdin})
	if err != nil {
		go func() { _ = cmd.Wait(); close(exited) }()
		return err
	}
	ended := m.keeper.Ended()
	go func() { <-ended; _ = cmd.Wait(); close(exited) }()
	m.binDir, m.copied = "", map[string]string{}
	m.links, err = m.keeper.Links(ctx)
	return err
}

// conn is the connection to a keeper. Closing it closes only the input, since the keeper still sends output at its end.
type conn struct {
	io.Reader
	io.WriteCloser
}

// within runs do, which reads from the connection, and ends ssh if it takes too long.
func (m *machine) within(ctx context.Context, limit time.Duration, what string, do func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s: nothing within %s", what, limit))
	defer cancel()
	stop := context.AfterFunc(ctx, m.kill)
	defer stop()
	err := do()
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", m.name, context.Cause(ctx))
	}
	return err
}

// kill ends ssh and the processes that it started.
func (m *machine) kill() { _ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL) }

// greet performs the harness's part of bootstrap.
func (m *machine) greet(ctx context.Context, reader *bufio.Reader) error {
	var arch string
	if err := m.within(ctx, connectTimeout, "log in", func() (err error) {
		arch, err = m.answer(reader, func(line string) (string, bool) { return strings.CutPrefix(line, hello+" ") })
		return err
	}); err != nil {
		return err
	}
	return m.within(ctx, copyTimeout, "copy cnitest", func() error { return m.install(reader, arch) })
}

// install sends this program to the machine unless it has it.
func (m *machine) install(reader *bufio.Reader, arch string) error {
	goArch := machineArchs[arch]
	binary, err := m.options.Binary(goArch)
	if err != nil {
		return fmt.Errorf("%s is %s: %w", m.name, arch, err)
	}
	if err := m.plugins.fit(m.name, goArch); err != nil {
		return err
	}
	sum, err := sumOf(binary)
	if err != nil {
		return err
	}
	packed, err := pack(binary)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(m.stdin, "%s %d\n", sum, len(packed)); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	answer, err := m.answer(reader, func(line string) (string, bool) { return line, line == "have" || line == "need" })
	if err != nil {
		return err
	}
	if answer == "need" {
		m.options.Log(fmt.Sprintf("%s: copying cnitest, %d MB", m.name, len(packed)>>20))
		if _, err := m.stdin.Write(packed); err != nil {
			return fmt.Errorf("%s: copy cnitest: %w", m.name, err)
		}
	}
	_, err = m.answer(reader, func(line string) (string, bool) { return line, line == "ready" })
	return err
}

// answer reads lines until it finds a wanted one. A login shell may print others.
func (m *machine) answer(reader *bufio.Reader, wanted func(string) (string, bool)) (string, error) {
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("%s: ssh ended before the machine answered", m.name)
		}
		if value, ok := wanted(strings.TrimSpace(line)); ok {
			return value, nil
		}
	}
}

// pack compresses a file.
func pack(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	writer, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = writer.Write(data)
	err = errors.Join(err, writer.Close())
	return packed.Bytes(), err
}

// copyPlugins sends the binaries that the machine lacks, and makes a directory of them.
func (m *machine) copyPlugins(ctx context.Context, names []string) error {
	m.copying.Lock()
	defer m.copying.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, copyTimeout, fmt.Errorf("copy plugins: not done within %s",
		copyTimeout))
	defer cancel()
	directory, grown := maps.Clone(m.copied), false
	for _, name := range names {
		grown = grown || directory[name] == ""
		directory[name] = m.plugins.files[name].Sum
	}
	if !grown && m.binDir != "" {
		return nil
	}
	missing, err := m.keeper.Missing(ctx, slices.Collect(maps.Values(directory)))
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		m.options.Log(fmt.Sprintf("%s: copying %d plugins", m.name, len(missing)))
	}
	for name, sum := range directory {
		if slices.Contains(missing, sum) {
			if err := m.keeper.Send(ctx, m.plugins.files[name]); err != nil {
				return err
			}
		}
	}
	if m.binDir, err = m.keeper.Directory(ctx, directory, slices.Collect(m.plugins.sums())); err != nil {
		return err
	}
	m.copied = directory
	return nil
}

// explain adds the output of ssh, sudo and the keeper to an error.
func (m *machine) explain(err error) error {
	text := m.stderr.String()
	if text == "" {
		return err
	}
	err = fmt.Errorf("%w: %s", err, strings.ReplaceAll(text, "\n", "; "))
	if strings.Contains(text, "sudo:") {
		err = fmt.Errorf("%w; the user needs sudo without a password there (sudoers(5), NOPASSWD), or log in as root",
			err)
	}
	return err
}

// lost returns the reason why the machine does not answer any more, or nil.
func (m *machine) lost() error {
	if m.keeper == nil {
		return fmt.Errorf("%s: %w", m.name, keeper.ErrLost)
	}
	return m.keeper.Lost()
}

// closeTimeout limits how long a keeper may take to restore its machine at the end.
const closeTimeout = 30 * time.Second

// close ends the keeper and waits until it has restored the machine. Its error says what was not restored.
func (m *machine) close() error {
	if m.cmd == nil {
		return nil
	}
	lost := m.keeper != nil && m.keeper.Lost() != nil
	_ = m.stdin.Close()
	if m.keeper != nil {
		// Closing waits for the end of the output, which a lost machine never sends.
		go func() { _ = m.keeper.Close() }()
	}
	limit := closeTimeout
	if lost {
		limit = time.Second // nobody answers
	}
	select {
	case <-m.exited:
	case <-time.After(limit):
		m.kill()
		<-m.exited
	}
	// Processes that ssh started may wait for a lost machine.
	m.kill()
	status := m.cmd.ProcessState.ExitCode()
	m.cmd = nil
	switch {
	case lost:
		return fmt.Errorf("%s: %w: its keeper restores it when it notices that the connection is lost", m.name,
			keeper.ErrLost)
	case status != 0:
		return m.explain(fmt.Errorf("%s: ssh ended with exit status %d", m.name, status))
	}
	return nil
}

// tail keeps the last lines of a process's output.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// tailSize is enough for the message with which a process ends.
const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailSize):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
