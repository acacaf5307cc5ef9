package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// asProgram makes this test binary the program that a machine runs.
const asProgram = "VMRUN_TEST_PROGRAM"

func TestMain(m *testing.M) {
	switch {
	case os.Getpid() == 1:
		guestMain()
	case filepath.Base(os.Args[0]) == modprobeName:
		os.Exit(modprobe(os.Args[1:]))
	case os.Getenv(asProgram) != "":
		program(os.Args[1])
	}
	os.Exit(m.Run())
}

// more is more text than fits in a pipe.
var more = strings.Repeat("and more\n", 50_000)

// program runs in the machine.
func program(what string) {
	if what == "sleep" {
		hang()
	}
	fmt.Print("out\r\nput\n")
	fmt.Fprintln(os.Stderr, "complaint")
	switch what {
	case "fail":
		os.Exit(7)
	case "panic":
		_ = os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "hang":
		hang()
	case "killed":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "orphans":
		// When this has ended, their parent is process 1, and they keep its output open.
		fmt.Print(more)
		_ = (&exec.Cmd{
			Path: "/proc/self/exe", Args: []string{"orphan", "sleep"}, Env: []string{asProgram + "=yes"},
			Stdout: os.Stdout,
		}).Start()
	}
	os.Exit(0)
}

// hang does not sleep: the clock of a machine may run fast, so that an hour passes quickly.
func hang() {
	for {
		_ = unix.Pause() // until the Go runtime gets a signal
	}
}

// TestRun boots machines, if QEMU and a kernel exist.
func TestRun(t *testing.T) {
	if os.Getenv("CNITEST_VM") == "" {
		t.Skip("boots virtual machines for two minutes: set CNITEST_VM=yes")
	}
	store, err := openStore()
	check(t, err)
	k, err := store.kernel(t.Context(), orDefault(os.Getenv("KERNEL"), defaultKernel))
	check(t, err)
	accel, err := store.accelerator(t.Context(), k)
	check(t, err)
	t.Setenv(asProgram, "yes")
	self, err := os.Executable()
	check(t, err)
	const booted = 60 * time.Second
	for _, tt := range []struct {
		program string
		within  time.Duration
		status  int
		stderr  string
		wantErr string // the beginning of the error
	}{
		{"succeed", booted, 0, "complaint\n", ""},
		{"fail", booted, 7, "complaint\n", ""},
		{"killed", booted, 137, "complaint\nvmrun: " + filepath.Base(self) + ": killed\n", ""},
		{"orphans", booted, 0, "complaint\n", ""},
		{"panic", booted, 0, "complaint\n", "the machine went down before the program ended; the kernel's console ends with:\n\t"},
		{"hang", booted, 0, "complaint\n", "not over after 1m0s: killed; the kernel's console is empty"},
	} {
		t.Run(tt.program, func(t *testing.T) {
			initrd, err := pack(k, &options{program: []string{self, tt.program}})
			check(t, err)
			defer initrd.Close()
			ctx, cancel := context.WithTimeoutCause(t.Context(), tt.within, &deadlineError{tt.within})
			defer cancel()
			var stdout, stderr bytes.Buffer
			m := machine{
				kernel: k, accel: accel, memory: 512, cpus: 1, initrd: initrd, stdout: &stdout, stderr: &stderr,
			}
			status, err := m.run(ctx)
			if got := errText(err); !strings.HasPrefix(got, tt.wantErr) || (got == "") != (tt.wantErr == "") {
				t.Errorf("got the error %q, want %q", got, tt.wantErr)
			}
			if status != tt.status {
				t.Errorf("got status %d, want %d", status, tt.status)
			}
			want := "out\r\nput\n"
			if tt.program == "orphans" {
				want += more
			}
			if got := stdout.String(); got != want {
				t.Errorf("got %d bytes on standard output that end with %q, want %d that end with %q", len(got),
					end(got), len(want), end(want))
			}
			if diff := cmp.Diff(stderr.String(), tt.stderr); diff != "" {
				t.Errorf("standard error (-got +want):\n%s", diff)
			}
		})
	}
}

func end(s string) string { return s[max(0, len(s)-20):] }

func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, args, want string }{
		{"nothing", "", "want a program to run; see vmrun --help"},
		{"accelerator", "--accel xen true", `--accel "xen": want auto, kvm or tcg`},
		{"fetch and run", "--fetch true", "--fetch with a program: want one of them"},
		{"unknown flag", "--cpu max true", "flag provided but not defined: -cpu"},
		{"flags of the program", "true --accel xen", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(strings.Fields(tt.args))
			if diff := cmp.Diff(errText(err), tt.want); diff != "" {
				t.Errorf("error (-got +want):\n%s", diff)
			}
		})
	}
}

// Nobody answers the questions of a test.
func TestNeedQEMU(t *testing.T) {
	const missing = `exec: "qemu-system-x86_64": executable file not found in $PATH; install it with ` +
		"`apt-get install -y --no-install-recommends qemu-system-x86`, or with your system's own packages"
	for _, tt := range []struct{ name, ci, aptGet, want, wantLog string }{
		{"no apt-get", "true", "", missing, ""},
		{"not allowed", "", "echo $@ >>log", missing + "; CI=true lets me do it", ""},
		{"allowed", "true", "echo $@ $DEBIAN_FRONTEND >>log; printf '#!/bin/sh\n' >qemu-system-x86_64; PATH=/bin " +
			"chmod +x qemu-system-x86_64", "", "install -y --no-install-recommends qemu-system-x86 noninteractive\n"},
		{"refused", "true", "exit 100", "apt-get install -y --no-install-recommends qemu-system-x86: exit status 100", ""},
		{"of no use", "true", "true", missing, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			t.Setenv("PATH", dir)
			t.Setenv("CI", tt.ci)
			check(t, os.WriteFile("sudo", []byte("#!/bin/sh\nexec \"$@\"\n"), 0o755))
			if tt.aptGet != "" {
				check(t, os.WriteFile("apt-get", []byte("#!/bin/sh\n"+tt.aptGet+"\n"), 0o755))
			}
			if diff := cmp.Diff(errText(needQEMU(t.Context())), tt.want); diff != "" {
				t.Errorf("error (-got +want):\n%s", diff)
			}
			log, _ := os.ReadFile("log")
			if diff := cmp.Diff(string(log), tt.wantLog); diff != "" {
				t.Errorf("what apt-get was asked (-got +want):\n%s", diff)
			}
		})
	}
}

func TestOptions_named(t *testing.T) {
	t.Chdir("/tmp")
	o := options{program: []string{
		"cnitest", "run", "net.d/a.conflist", "--bin-dir", "bin", "--report-dir=/out",
		"-test.run=^TestX$", ".", "/", "",
	}}
	want := []string{"/tmp/run", "/tmp/net.d/a.conflist", "/tmp/--bin-dir", "/tmp/bin", "/out", "/tmp/^TestX$"}
	if diff := cmp.Diff(o.named(), want); diff != "" {
		t.Errorf("paths (-got +want):\n%s", diff)
	}
}

func TestCheckStatic(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	check(t, os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755))
	for path, want := range map[string]string{
		script:    script + ": want a static program: EOF",
		"/bin/sh": "/bin/sh: want a static program, got one that needs libraries: build it with CGO_ENABLED=0",
	} {
		if diff := cmp.Diff(errText(checkStatic(path)), want); diff != "" {
			t.Errorf("%s: error (-got +want):\n%s", path, diff)
		}
	}
}

func TestModules(t *testing.T) {
	all := modules{
		"ipvlan": {name: "ipvlan", path: "/k/kernel/drivers/net/ipvlan/ipvlan.ko", aliases: []string{"rtnl_link_ipvlan"}, needs: []string{"l3mdev", "crc-any"}},
		"l3mdev": {name: "l3mdev", path: "/k/kernel/elsewhere/l3mdev.ko", needs: []string{"built-in"}},
		"crc_a":  {name: "crc_a", path: "/k/kernel/lib/crc-a.ko", aliases: []string{"crc_any"}},
		"crc_b":  {name: "crc_b", path: "/k/kernel/lib/crc_b.ko", aliases: []string{"crc_any"}, needs: []string{"ipvlan"}},
		"sound":  {name: "sound", path: "/k/kernel/sound/sound.ko"},
	}
	var got []string
	for _, m := range all.order(all["ipvlan"]) {
		got = append(got, m.name)
	}
	if diff := cmp.Diff(got, []string{"l3mdev", "crc_a", "crc_b", "ipvlan"}); diff != "" {
		t.Errorf("order (-got +want):\n%s", diff)
	}
	if got := all.named("nobody"); got != nil {
		t.Errorf("got %v for a name that nobody has, want nothing", got)
	}
}

func TestLookUp(t *testing.T) {
	const index = "ipvlan l3mdev.ko ipvlan.ko\nrtnl_link_ipvlan l3mdev.ko ipvlan.ko\ncrc_any crc-a.ko\ncrc_any " +
		"crc_b.ko\n"
	for name, want := range map[string][]string{
		"rtnl-link-ipvlan": {"l3mdev.ko", "ipvlan.ko"}, "ipvlan": {"l3mdev.ko", "ipvlan.ko"},
		"crc-any": {"crc-a.ko", "crc_b.ko"}, "ipv": nil,
	} {
		got, err := lookUp(strings.NewReader(index), name)
		check(t, err)
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", name, diff)
		}
	}
}

func TestLastWord(t *testing.T) {
	status := 3
	for _, tt := range []struct {
		name, in string
		want     *control
		wantErr  string
	}{
		{"status", `{"up":true}` + "\n" + `{"exit":3}` + "\n", &control{Exit: &status}, ""},
		{"reason", `{"error":"start: no such file"}` + "\n", &control{Error: "start: no such file"}, ""},
		{"cut off", `{"up":true}` + "\n" + `{"ex`, nil, "EOF"},
		{"noise", "kernel: hello\n", nil, `control port: "kernel: hello\n": invalid character 'k' looking for beginning of value`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := lastWord(strings.NewReader(tt.in))
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("last word (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(errText(err), tt.wantErr); diff != "" {
				t.Errorf("error (-got +want):\n%s", diff)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
