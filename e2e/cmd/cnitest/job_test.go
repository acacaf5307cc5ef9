package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/cnitest/cnitest/e2e"
	"github.com/cnitest/cnitest/e2e/conflist"
)

// TestJob checks that the command accepts what the manifest of a Job says: its arguments, its conflist and as many
// shards as it has pods.
func TestJob(t *testing.T) {
	file, err := os.Open("../../examples/kubernetes/job.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var job struct {
		Kind string
		Data map[string]string
		Spec struct {
			CompletionMode string `yaml:"completionMode"`
			Completions    int
			Template       struct {
				Spec struct {
					Containers []struct{ Args []string }
				}
			}
		}
	}
	conf := ""
	for decoder := yaml.NewDecoder(file); ; {
		err := decoder.Decode(&job)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if job.Kind == "ConfigMap" {
			for name, text := range job.Data {
				conf = name
				if _, err := conflist.Parse(name, []byte(text)); err != nil {
					t.Error(err)
				}
			}
		}
	}
	args := job.Spec.Template.Spec.Containers[0].Args
	if args[0] != "run" || !strings.HasSuffix(args[1], "/"+conf) {
		t.Errorf("got %q, want the command run and the path of %s", args, conf)
	}
	for index := range job.Spec.Completions {
		t.Setenv(jobIndex, strconv.Itoa(index))
		var f runFlags
		flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
		f.add(flags)
		if err := errors.Join(flags.Parse(args[2:]), f.readShard()); err != nil {
			t.Fatal(err)
		}
		if want := (e2e.Shard{Number: index + 1, Of: job.Spec.Completions}); f.part != want {
			t.Errorf("pod %d: got shard %s, want %s", index, f.part, want)
		}
	}
	if job.Spec.CompletionMode != "Indexed" || job.Spec.Completions < 2 {
		t.Errorf("got %q with %d pods, want an indexed Job of several", job.Spec.CompletionMode, job.Spec.Completions)
	}
}

// TestSonobuoy checks that the command accepts what the plugin of Sonobuoy says, and hands over where it waits.
func TestSonobuoy(t *testing.T) {
	text, err := os.ReadFile("../../examples/kubernetes/sonobuoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var plugin struct {
		Spec      struct{ Args []string }
		ConfigMap map[string]string `yaml:"config-map"`
	}
	if err := yaml.Unmarshal(text, &plugin); err != nil {
		t.Fatal(err)
	}
	const config, results = "/tmp/sonobuoy/config/", "/tmp/sonobuoy/results/"
	args := plugin.Spec.Args
	name, ok := strings.CutPrefix(args[1], config)
	if _, err := conflist.Parse(name, []byte(plugin.ConfigMap[name])); err != nil || !ok || args[0] != "run" {
		t.Errorf("got %q, %v, want the command run and a conflist of the config-map in %s", args, err, config)
	}
	var f runFlags
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	f.add(flags)
	if err := flags.Parse(args[2:]); err != nil {
		t.Fatal(err)
	}
	if f.done != results+"done" || !strings.HasPrefix(f.reportDir, results) {
		t.Errorf("got done file %s and reports in %s, want both in %s", f.done, f.reportDir, results)
	}
}

func TestOutputFlags_handOver(t *testing.T) {
	for _, tt := range []struct {
		name, wantError string
		run             error
	}{
		{"passed", "", nil},
		{"verdict", "", &exitError{status: exitNotConformant}},
		{"no verdict", "no such plugin\n", errors.New("no such plugin")},
		{"unfit", "no namespaces\n", &exitError{exitUnfit, errors.New("no namespaces")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			f := outputFlags{reportDir: filepath.Join(dir, "out"), done: filepath.Join(dir, "done")}
			if err := f.handOver(tt.run); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(f.done); string(got) != f.reportDir || err != nil {
				t.Errorf("got %q, %v, want %s", got, err, f.reportDir)
			}
			if got, _ := os.ReadFile(filepath.Join(f.reportDir, errorName)); string(got) != tt.wantError {
				t.Errorf("got the error %q, want %q", got, tt.wantError)
			}
		})
	}
	if err := new(outputFlags).handOver(errors.New("no such plugin")); err != nil {
		t.Errorf("got %v without --done, want nothing", err)
	}
}
