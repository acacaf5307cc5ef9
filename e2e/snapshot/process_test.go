package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// role makes the test binary play another program when tests start it.
const role = "SNAPSHOT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "agent":
		beAgent()
	case "daemon":
		_, _ = io.Copy(io.Discard, os.Stdin)
	default:
		os.Exit(m.Run())
	}
}

// beAgent runs as the first process of a PID namespace. It prints what it sees with nothing started, with a daemon left
// behind, and after the daemon has died.
func beAgent() {
	var states []State
	look := func() {
		state, err := Take(context.Background(), Options{Kinds: []string{Process}})
		fail(err)
		states = append(states, state)
	}
	fail(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	fail(unix.Mount("proc", "/proc", "proc", 0, ""))
	look()
	daemon := exec.Command("/proc/self/exe", "--left", "behind")
	daemon.Env = []string{role + "=daemon"}
	_, err := daemon.StdinPipe()
	fail(err)
	fail(daemon.Start())
	look()
	fail(daemon.Process.Kill())
	// Wait for it without reaping it.
	fail(unix.Waitid(unix.P_PID, daemon.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil))
	look()
	fail(json.NewEncoder(os.Stdout).Encode(states))
}

func fail(err error) {
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func TestTakeProcesses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make namespaces")
	}
	executable, err := os.Executable()
	check(t, err)
	agent := exec.Command(executable)
	agent.Env = []string{role + "=agent"}
	agent.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
	}
	var stderr bytes.Buffer
	agent.Stderr = &stderr
	stdout, err := agent.Output()
	if err != nil {
		t.Fatalf("agent: %v: %s", err, stderr.String())
	}
	var states []State
	check(t, json.Unmarshal(stdout, &states))
	want := []State{
		{},
		{Items: []Item{{Kind: Process, Name: "/proc/self/exe --left behind", Text: "uid 0"}}},
		{Items: []Item{{Kind: Process, Name: "zombie of exe", Text: "uid 0"}}},
	}
	if diff := cmp.Diff(states, want); diff != "" {
		t.Errorf("states (-got +want):\n%s", diff)
	}
}

func TestParseStat(t *testing.T) {
	for _, tt := range []struct {
		name, in       string
		command, state string
		flags          uint64
		wantErr        string
	}{
		{name: "plain", in: "7 (cat) S 1 7 7 0 -1 4194560 0", command: "cat", state: "S", flags: 4194560},
		{name: "command with a parenthesis", in: "7 (a) b (c) Z 1 7 7 0 -1 4 0", command: "a) b (c", state: "Z", flags: 4},
		{name: "no command", in: "7 cat S", wantErr: `stat of a process: want a command in parentheses, got "7 cat S"`},
		{name: "too short", in: "7 (cat) S 1", wantErr: `stat of a process: want 7 fields behind the command, got "7 (cat) S 1"`},
		{name: "bad flags", in: "7 (cat) S 1 7 7 0 -1 x 0", command: "", wantErr: `stat of a process: flags: strconv.ParseUint: parsing "x": invalid syntax`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			command, state, flags, err := parseStat(tt.in)
			if command != tt.command || state != tt.state || flags != tt.flags {
				t.Errorf("got %q %q %d, want %q %q %d", command, state, flags, tt.command, tt.state, tt.flags)
			}
			if got := errorText(err); got != tt.wantErr {
				t.Errorf("got error %q, want %q", got, tt.wantErr)
			}
		})
	}
}

func TestParseMount(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     Item
		wantErr  string
	}{
		{
			name: "bind mount with propagation", in: "36 35 98:0 /sub /mnt\\040a rw,noatime shared:7 master:1 - ext3 " +
				"/dev/root rw,errors=continue",
			want: Item{
				Name: "/mnt\\040a", Text: "ext3 /dev/root root /sub rw,noatime rw,errors=continue shared master",
			},
		},
		{name: "no dash", in: "36 35 98:0 / /mnt rw ext3", wantErr: `mountinfo: want 6 fields, a dash and 3 fields, got "36 35 98:0 / /mnt rw ext3"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseMount(tt.in)
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("item (-got +want):\n%s", diff)
			}
			if got := errorText(err); got != tt.wantErr {
				t.Errorf("got error %q, want %q", got, tt.wantErr)
			}
		})
	}
}

// errorText returns the text of an error; empty for none.
func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
