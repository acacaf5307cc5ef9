package target

import (
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/cnitest/cnitest/e2e/internal/strictyaml"
	"github.com/cnitest/cnitest/e2e/lab/kubernetes"
	"github.com/cnitest/cnitest/e2e/report"
	"github.com/cnitest/cnitest/e2e/scenario"
)

// These are the largest numbers that a cloud gives one node: those of EC2's largest instances, or more.
const (
	maxENIs      = 15
	maxAddresses = 250
	maxPrefixes  = 15
)

// Load reads a target file.
func Load(file string) (*Target, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return Parse(file, data)
}

// Parse reads and validates a target file; file is its name in messages. Its error joins all mistakes as "file:line:
// what; how to mend", in the order of the lines, like the error of scenario.Parse.
func Parse(file string, data []byte) (*Target, error) {
	kind := strictyaml.Kind{Noun: "target", Start: "apiVersion: " + scenario.APIVersion}
	t := &Target{}
	lines, problems := kind.Decode(data, t)
	if problems != nil {
		return nil, strictyaml.Join(file, problems)
	}
	v := &validator{Target: t, lines: lines}
	v.head()
	if t.Implementation != nil {
		v.implementation(t.Implementation)
	}
	for i, command := range t.Setup {
		v.command(fmt.Sprintf("setup[%d]", i), command)
	}
	if t.Daemon != nil {
		v.daemon(t.Daemon)
	}
	if t.Cloud != nil {
		v.cloud(t.Cloud)
	}
	if t.OldConflist != "" && !filepath.IsAbs(t.OldConflist) {
		t.OldConflist = filepath.Join(filepath.Dir(file), t.OldConflist)
	}
	if t.Kubernetes != nil {
		v.kubernetes(t.Kubernetes, filepath.Dir(file))
	}
	if v.problems != nil {
		return nil, strictyaml.Join(file, v.problems)
	}
	t.Source = data
	return t, nil
}

// validator collects the mistakes of one file.
type validator struct {
	*Target
	lines    strictyaml.Lines
	problems []strictyaml.Problem
}

func (v *validator) wrong(path, format string, args ...any) {
	v.problems = append(v.problems, strictyaml.Problem{Line: v.lines.Of(path), Text: fmt.Sprintf(format, args...)})
}

func (v *validator) head() {
	if v.APIVersion != scenario.APIVersion {
		v.wrong("apiVersion", "unknown apiVersion %q; write apiVersion: %s", v.APIVersion, scenario.APIVersion)
	}
	if v.Kind != Kind {
		v.wrong("kind", "unknown kind %q; write kind: %s", v.Kind, Kind)
	}
}

// implementation wants what a reader of the report needs to ask somebody.
func (v *validator) implementation(o *report.Origin) {
	for _, field := range []struct{ name, value, example string }{
		{"organization", o.Organization, "Example Networks"},
		{"project", o.Project, "mynet"},
	} {
		if strings.TrimSpace(field.value) == "" {
			v.wrong("implementation."+field.name, "implementation names no %s; write one such as %q", field.name,
				field.example)
		}
	}
	if u, err := url.Parse(o.URL); o.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" &&
		u.Scheme != "https") {
		v.wrong("implementation.url", "url %q is no address of a web page; write one such as https://example.org/mynet",
			o.URL)
	}
	if strings.ContainsAny(o.Contact, " \n") || o.Contact != "" && !strings.ContainsAny(o.Contact, "@:/") {
		v.wrong("implementation.contact", "contact %q is neither an address of mail nor of a page; write one such as "+
			"cni@example.org", o.Contact)
	}
}

func (v *validator) command(path string, command []string) {
	if len(command) == 0 || command[0] == "" {
		v.wrong(path, "command names no program; write a list such as [ipamd, --cooling, 1s]")
	}
}

// nameForm restricts names to those that can be file names, since evidence is kept in files.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

func (v *validator) daemon(d *Daemon) {
	if !nameForm.MatchString(d.Name) {
		v.wrong("daemon.name", "daemon has the name %q; write one such as ipamd", d.Name)
	}
	v.command("daemon.command", d.Command)
	for name, command := range d.Variants {
		if path := "daemon.variants." + name; slices.Contains(scenario.Variants(), name) {
			v.command(path, command)
		} else {
			v.wrong(path, "unknown variant %q; %s", name, strictyaml.Meant(name, scenario.Variants()))
		}
	}
	if d.OldCommand != nil {
		v.command("daemon.oldCommand", d.OldCommand)
	}
	for name := range d.Environment {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			v.wrong("daemon.environment", "%q cannot be an environment variable; write a name such as WARM_IP_TARGET",
				name)
		}
	}
	switch {
	case d.Ready.Socket == "" && d.Ready.File == "":
		v.wrong("daemon.ready",
			"ready is missing; say what shows that the daemon serves, {socket: PATH} or {file: PATH}")
	case d.Ready.Socket != "" && d.Ready.File != "":
		v.wrong("daemon.ready", "ready names a socket and a file; remove one of the two")
	case d.Ready.Socket != "":
		v.path("daemon.ready.socket", d.Ready.Socket)
	default:
		v.path("daemon.ready.file", d.Ready.File)
	}
	for i, path := range d.Owns {
		v.path(fmt.Sprintf("daemon.owns[%d]", i), path)
	}
}

func (v *validator) path(at, path string) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		v.wrong(at, "%q is not an absolute path of a file; write one such as /run/ipamd/ipamd.sock", path)
	}
}

func (v *validator) cloud(c *Cloud) {
	v.within("enis", c.ENIs, 1, maxENIs)
	v.within("addresses", c.Addresses, 0, maxAddresses)
	v.within("prefixes", c.Prefixes, 0, maxPrefixes)
	if c.Addresses == 0 && c.Prefixes == 0 {
		v.wrong("cloud", "cloud has no addresses for pods; say how many each ENI has with addresses or prefixes")
	}
	if c.VPC != "" {
		vpc, err := netip.ParsePrefix(c.VPC)
		// These are the sizes of a VPC, without those that have no room for a lab.
		if err != nil || !vpc.Addr().Is4() || vpc != vpc.Masked() || vpc.Bits() < 16 || vpc.Bits() > 24 {
			v.wrong("cloud.vpc", "vpc %q is not an IPv4 network of 16 to 24 bits; write one such as %s", c.VPC,
				defaultVPC)
		}
	}
	if c.Metadata != "" && c.Metadata != MetadataV1 && c.Metadata != MetadataV2 {
		v.wrong("cloud.metadata", "unknown metadata %q; %s", c.Metadata, strictyaml.Meant(c.Metadata,
			[]string{MetadataV1, MetadataV2}))
	}
}

// kubernetes checks the files with definitions, whose relative paths start at dir, and finds those that patterns name.
func (v *validator) kubernetes(k *Kubernetes, dir string) {
	if k.Kubeconfig != "" {
		v.path("kubernetes.kubeconfig", k.Kubeconfig)
	}
	var found []string
	for i, pattern := range k.CRDs {
		at, from := fmt.Sprintf("kubernetes.crds[%d]", i), pattern
		if !filepath.IsAbs(from) {
			from = filepath.Join(dir, from)
		}
		files, err := filepath.Glob(from)
		if err != nil || len(files) == 0 {
			v.wrong(at,
				"no file %s; write the path of a manifest with a CustomResourceDefinition, relative to this file",
				pattern)
			continue
		}
		for _, file := range files {
			if _, err := kubernetes.ReadDefinitions(file); err != nil {
				v.wrong(at, "%v; write the path of a manifest with a CustomResourceDefinition", err)
			}
		}
		found = append(found, files...)
	}
	k.CRDs = found
}

// within reports a number in the file that is out of bounds.
func (v *validator) within(field string, value, lowest, highest int) {
	path := "cloud." + field
	if v.lines.Has(path) && (value < lowest || value > highest) {
		v.wrong(path, "%s is %d; want %d to %d", field, value, lowest, highest)
	}
}
