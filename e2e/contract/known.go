package contract

import "regexp"

// Known is a deviation that the reference library of plugins in Go causes in every plugin that uses it.
type Known struct {
	Requirement string
	// Pattern matches the text of the deviation in results.
	Pattern *regexp.Regexp
	// Reason names the place in github.com/containernetworking/cni v1.3 that causes it.
	Reason string
}

// KnownUpstream returns all such deviations, each with its reason; a test of package e2e shows each on a plugin that
// does nothing.
func KnownUpstream() []Known {
	return []Known{
		{
			"VER-3", regexp.MustCompile(`^VERSION was asked at \S+ and answers cniVersion "1\.1\.0"$`),
			"skel does not read the input of VERSION and answers the newest version that it knows (pkg/version, " +
				"PluginSupports)",
		},
		{
			"EXE-2", regexp.MustCompile(`^the error object has no cniVersion$`),
			"types.Error, which skel prints, has no field for it (pkg/types)",
		},
		{
			"ENV-2", regexp.MustCompile(`does not name CNI_(CONTAINERID|IFNAME): "(invalid characters in ` +
				`containerID|interface name is too long)"$`),
			"the messages are skel's, and it refuses the call before the plugin sees it (pkg/utils)",
		},
		{
			"ENV-4", regexp.MustCompile(`without CNI_PATH: want success, got exit status 1, code 4: required env ` +
				`variables \[CNI_PATH\] missing`),
			"skel wants CNI_PATH for every verb but VERSION (pkg/skel)",
		},
		{
			"ERR-1", regexp.MustCompile(`fails with code 8, .*should not be the same`),
			"skel's own check of the namespace answers types.ErrInvalidNetNS (pkg/skel)",
		},
	}
}

// knownOf returns why a deviation is the library's fault; empty if it is the plugin's own.
func knownOf(s *Subject, requirement, text string) string {
	if !s.skel {
		return ""
	}
	for _, k := range KnownUpstream() {
		if k.Requirement == requirement && k.Pattern.MatchString(text) {
			return k.Reason
		}
	}
	return ""
}
