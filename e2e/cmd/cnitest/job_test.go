package main

import (
	"errors"
	"io"
	"os"
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
