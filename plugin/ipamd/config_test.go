package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// parse returns the configuration that results from a command line.
func parse(args ...string) (Config, error) {
	var got Config
	cmd := command(args, func(cfg Config) error {
		got = cfg
		return nil
	})
	cmd.SetArgs(append([]string{}, args...)) // nil would mean the arguments of the test
	return got, cmd.Execute()
}

func TestConfig(t *testing.T) {
	base, err := parse()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		env    map[string]string
		change func(*Config)
	}{
		{"defaults", nil, nil, func(*Config) {}},
		{
			"flags",
			[]string{"--socket", "/a", "--socket=/b", "--cooling=5s", "--mark=0x40", "--node-ports=false"},
			nil,
			func(c *Config) {
				c.Sockets, c.Cooling, c.Kernel.Mark, c.Kernel.NodePorts = []string{"/a", "/b"}, 5*time.Second, 0x40,
					false
			},
		},
		{"file", []string{"--config", "testdata/full.yaml"}, nil, full},
		{
			"flags over file",
			[]string{"--config=testdata/full.yaml", "--socket", "/c", "--warm-ip-target=9"},
			nil,
			func(c *Config) {
				full(c)
				c.Sockets, c.EC2.WarmIPTarget = []string{"/c"}, 9
			},
		},
		{"empty file", []string{"--config", "testdata/empty.yaml"}, nil, func(*Config) {}},
		{
			"environment", nil,
			map[string]string{"WARM_IP_TARGET": "3", "MINIMUM_IP_TARGET": "4", "WARM_ENI_TARGET": "0"},
			func(c *Config) {
				c.EC2.WarmIPTarget, c.EC2.MinimumIPTarget, c.EC2.WarmENITarget = 3, 4, 0
			},
		},
		{"file over environment", []string{"--config", "testdata/full.yaml"}, map[string]string{"WARM_IP_TARGET": "3"}, full},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			want := base
			tt.change(&want)
			got, err := parse(tt.args...)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("(-want +got):\n%s%v", diff, err)
			}
		})
	}
}

// full sets the values of testdata/full.yaml.
func full(c *Config) {
	*c = Config{
		Sockets: []string{"/run/a.sock", "/run/b.sock"}, AllowedUsers: []uint{0, 1000}, State: "/var/lib/x.json",
		Introspection: "127.0.0.1:61679",
		LogLevel:      "debug", IPFamily: ipv4, Cooling: time.Minute, Reconcile: 10 * time.Second,
		Metadata: MetadataConfig{Endpoint: "http://127.0.0.1:1338", RequireToken: true},
		Kernel: KernelConfig{
			Enabled: false, ExternalSNAT: true, NodePorts: false, Mark: 0x100, VethPrefix: "pod", MTU: 9001,
		},
		Cloud: cloudEC2, EC2: EC2Config{
			Endpoint: "http://127.0.0.1:4566", PrefixDelegation: true, WarmIPTarget: 5,
			MinimumIPTarget: 10, WarmENITarget: 2,
		},
	}
}

// Each file has one mistake. The message about it is beside its name.
func TestConfig_mistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/bad-*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %v, %v, want files", files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			if status := execute(t.Context(), []string{"--config", file}, &stdout, &stderr); status != 2 ||
				stdout.Len() != 0 {
				t.Errorf("got exit status %d and %q, want 2 and nothing", status, &stdout)
			}
			if diff := cmp.Diff(string(want), stderr.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestExecute_mistakes(t *testing.T) {
	t.Setenv("WARM_ENI_TARGET", "many")
	for want, args := range map[string][]string{
		"ipamd: unknown flag: --sockets\n":                                    {"--sockets", "/a"},
		"ipamd: unknown command \"serve\" for \"ipamd\"\n":                    {"serve"},
		"ipamd: config: open testdata/none.yaml: no such file or directory\n": {"--config", "testdata/none.yaml", "--warm-eni-target", "1"},
		"ipamd: environment: WARM_ENI_TARGET: want a number, got \"many\"\n":  nil,
	} {
		if strings.Contains(want, "none.yaml") {
			t.Setenv("WARM_ENI_TARGET", "")
		} else {
			t.Setenv("WARM_ENI_TARGET", "many")
		}
		var stdout, stderr bytes.Buffer
		status := execute(t.Context(), args, &stdout, &stderr)
		if diff := cmp.Diff(want, stderr.String()); diff != "" || status != 2 {
			t.Errorf("status %d (-want +got):\n%s", status, diff)
		}
	}
}

// README.md has a line for each flag, and --help has one for each setting of the file.
func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := execute(t.Context(), []string{"--help"}, &stdout, &stderr); status != 0 || stderr.Len() != 0 {
		t.Errorf("got exit status %d and %q", status, &stderr)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(nil, func(Config) error { return nil })
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(string(readme), fmt.Sprintf("`--%s`", f.Name)) {
			t.Errorf("README.md: want a line for --%s", f.Name)
		}
		if !strings.Contains(stdout.String(), "--"+f.Name) {
			t.Errorf("--help: want --%s", f.Name)
		}
	})
}
