package scenario

import (
	"fmt"
	"slices"
	"strings"
)

// Markdown returns a table of scenarios, each with a link to its file and the first sentence of its description.
func Markdown(all []*Scenario) string {
	var b strings.Builder
	b.WriteString("| scenario | what a user relies on | features | covers |\n|---|---|---|---|\n")
	for _, s := range all {
		first, _ := s.Sentences()
		fmt.Fprintf(&b, "| [%s](%s) | %s | %s | %s |\n",
			s.Name, s.File, cell(first), features(s.Features, " "), strings.Join(s.Covers, " "))
	}
	return b.String()
}

// cell escapes text for a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// Sentences returns the description on one line each: the first sentence, up to a full stop that ends a word, which
// says what a user relies on, and the rest, which may be empty.
func (s *Scenario) Sentences() (first, rest string) {
	text := strings.Join(strings.Fields(s.Description), " ")
	if i := strings.Index(text, ". "); i >= 0 {
		return text[:i+1], text[i+2:]
	}
	return text, ""
}

func features(list []Feature, separator string) string {
	var words []string
	for _, f := range list {
		words = append(words, string(f))
	}
	return strings.Join(words, separator)
}

// explainWidth is the line length of Explain, for a terminal of 80 columns.
const explainWidth = 78

// Explain describes a scenario for a terminal: why it exists, what it claims, what it needs and what it does.
func Explain(s *Scenario) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%s\n", s.Name, wrap(s.Description, "  "))
	b.WriteString("features\n")
	for _, f := range s.Features {
		fmt.Fprintf(&b, "  %s\n%s", f, wrap(f.Meaning(), "    "))
	}
	if len(s.Covers) > 0 {
		fmt.Fprintf(&b, "\ncovers\n%s", wrap(strings.Join(s.Covers, ", "), "  "))
	}
	fmt.Fprintf(&b, "\ncore in\n  %s\n\nneeds\n%s", coreIn(s), wrap(s.Needs().String(), "  "))
	if len(s.Services) > 0 {
		b.WriteString("\nservices\n")
	}
	for _, service := range s.Services {
		fmt.Fprintf(&b, "  %s\n", service)
	}
	if len(s.Steps) > 0 {
		b.WriteString("\nsteps\n")
	}
	for _, step := range s.Steps {
		fmt.Fprintf(&b, "  %s:%d  %s\n", s.File, step.Line, step)
	}
	for i, name := range s.Needs().Events {
		if i == 0 {
			b.WriteString("\nevents\n")
		}
		kind, _ := EventNamed(name)
		b.WriteString(wrap(name+": "+kind.Meaning+".", "  "))
	}
	return b.String()
}

func coreIn(s *Scenario) string {
	var names []string
	for _, p := range Profiles() {
		if p.Core(s) {
			names = append(names, string(p))
		}
	}
	if names == nil {
		return "no profile; it counts where its features are claimed"
	}
	return strings.Join(names, ", ")
}

// String lists the needs in words.
func (n Needs) String() string {
	parts := []string{fmt.Sprintf("nodes: %d", n.Nodes)}
	for _, one := range []struct {
		needed bool
		text   string
	}{
		{n.SecondNIC, "a node with two NICs"},
		{n.Reboot, "a node that reboots"},
		{n.Services, "services"},
		{n.LocalAddresses, "a node with local addresses"},
		{n.ForwardPolicy, "a node whose FORWARD hook drops"},
		{n.Redirect, "a redirect in a pod"},
		{n.Capture, "a packet capture"},
		{n.Leases, "a DHCP server"},
		{n.Asks, "a conflist with capabilities"},
		{n.Hostile, "a network of its own"},
		{n.OldVersion, "an earlier version of the plugin"},
		{n.OldConflist, "a conflist of an earlier version"},
		{n.Daemon, "a daemon"},
		{n.Cloud, "a cloud"},
		{len(n.Events) > 0, "nodes to which something happens"},
	} {
		if one.needed {
			parts = append(parts, one.text)
		}
	}
	var addresses []string
	for name, count := range n.Addresses {
		if count > 0 {
			addresses = append(addresses, fmt.Sprintf("%d on %s", count, name))
		}
	}
	slices.Sort(addresses)
	for _, list := range []struct {
		what  string
		words []string
	}{
		{"addresses", addresses}, {"hosts", n.Hosts}, {"sysctls", n.Sysctls}, {"plugins", n.Plugins},
	} {
		if len(list.words) > 0 {
			parts = append(parts, list.what+": "+strings.Join(list.words, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// wrap breaks text between words, each line with indent and a newline.
func wrap(text, indent string) string {
	var b strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > explainWidth && line != indent {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}
