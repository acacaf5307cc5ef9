package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// workflowStep is a step of a workflow or of a composite action.
type workflowStep struct {
	Name  string            `yaml:"name"`
	ID    string            `yaml:"id"`
	If    string            `yaml:"if"`
	Uses  string            `yaml:"uses"`
	With  map[string]string `yaml:"with"`
	Shell string            `yaml:"shell"`
	Env   map[string]string `yaml:"env"`
	Run   string            `yaml:"run"`
}

// action is action.yml.
type action struct {
	Inputs map[string]struct {
		Default  string `yaml:"default"`
		Required bool   `yaml:"required"`
	} `yaml:"inputs"`
	Outputs map[string]struct {
		Value string `yaml:"value"`
	} `yaml:"outputs"`
	Runs struct {
		Using string         `yaml:"using"`
		Steps []workflowStep `yaml:"steps"`
	} `yaml:"runs"`
}

// runner does what GitHub's runner does with the shell of steps, in a directory. Actions of others are left out.
type runner struct {
	t         *testing.T
	workspace string
	temp      string
	// expressions are the values of those that steps may use, such as "inputs.conflist".
	expressions map[string]string
	summary     string
}

func newRunner(t *testing.T, workspace string) *runner {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("want root: on GitHub the action asks sudo")
	}
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip(err)
	}
	temp := t.TempDir()
	return &runner{
		t: t, workspace: workspace, temp: temp, expressions: map[string]string{"github.action_ref": "v9.8.7"},
		summary: filepath.Join(temp, "summary.md"),
	}
}

// readYAML reads a file in GitHub's format, as far as its steps.
func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	data, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	if err := yaml.NewDecoder(data).Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

var expressionForm = regexp.MustCompile(`\$\{\{ *(.*?) *\}\}`)

func (r *runner) expand(text string) string {
	r.t.Helper()
	return expressionForm.ReplaceAllStringFunc(text, func(whole string) string {
		name := expressionForm.FindStringSubmatch(whole)[1]
		value, ok := r.expressions[name]
		if !ok {
			r.t.Errorf("expression %s has no value", whole)
		}
		return value
	})
}

// actionDir returns where this repository's action is.
func actionDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// action runs the steps of this repository's action and returns its outputs and whether it succeeded.
func (r *runner) action(with map[string]string) (outputs map[string]string, ok bool) {
	r.t.Helper()
	var a action
	readYAML(r.t, filepath.Join(actionDir(r.t), "action.yml"), &a)
	inner := &runner{t: r.t, workspace: r.workspace, temp: r.temp, expressions: map[string]string{
		"github.action_ref": "v9.8.7",
	}, summary: r.summary}
	for name, input := range a.Inputs {
		value, given := with[name]
		if !given && input.Required {
			r.t.Errorf("action: input %s is missing", name)
		}
		if !given {
			value = input.Default
		}
		inner.expressions["inputs."+name] = value
	}
	for name := range with {
		if _, known := a.Inputs[name]; !known {
			r.t.Errorf("action: no input %s", name)
		}
	}
	ok = true
	for _, step := range a.Runs.Steps {
		if ok {
			ok = inner.shell(step)
		}
	}
	outputs = map[string]string{}
	for name, output := range a.Outputs {
		key := expressionForm.FindStringSubmatch(output.Value)[1]
		outputs[name] = inner.expressions[key]
	}
	return outputs, ok
}

// shell runs a step's script as GitHub does with shell: bash.
func (r *runner) shell(step workflowStep) bool {
	r.t.Helper()
	output := filepath.Join(r.temp, "output")
	if err := os.WriteFile(output, nil, 0o644); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", r.expand(step.Run))
	cmd.Dir = r.workspace
	cmd.Env = append(os.Environ(), "RUNNER_TEMP="+r.temp, "GITHUB_OUTPUT="+output, "GITHUB_STEP_SUMMARY="+r.summary,
		"GITHUB_ACTION_PATH="+actionDir(r.t), "GOFLAGS=-buildvcs=false")
	for name, value := range step.Env {
		cmd.Env = append(cmd.Env, name+"="+r.expand(value))
	}
	text, err := cmd.CombinedOutput()
	r.t.Logf("step %q:\n%s", step.Name, text)
	data, readErr := os.ReadFile(output)
	if readErr != nil {
		r.t.Fatal(readErr)
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		r.expressions["steps."+step.ID+".outputs."+name] = value
	}
	return err == nil
}
