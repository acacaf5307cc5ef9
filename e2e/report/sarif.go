package report

import (
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
)

// suitePage is where the suite is published; scenario files are below it.
const suitePage = "https://github.com/cnitest/cnitest"

// scenarioBase names the suite's repository in SARIF, in which paths of scenarios are relative.
const scenarioBase = "CNITEST"

// WriteSARIF writes the failures that count in the format of static analysis, version 2.1.0, which code hosts show
// beside the code. A failed scenario is at the line of its step, in the suite's repository, and points to the conflist;
// a requirement is where the conflist names the plugin.
func (r *Report) WriteSARIF(out io.Writer) error {
	run := sarif.NewRunWithInformationURI("cnitest", suitePage)
	run.Tool.Driver.WithVersion(r.Suite.Version)
	ref := "main"
	if release.MatchString(r.Suite.Version) {
		ref = r.Suite.Version
	}
	run.WithOriginalUriBaseIds(map[string]sarif.ArtifactLocation{
		scenarioBase: *sarif.NewSimpleArtifactLocation(suitePage + "/blob/" + ref + "/"),
	})
	for _, res := range r.failures() {
		rule := run.AddRule(res.ID).WithDescription(res.Title).WithHelpURI(suitePage)
		if res.Why != "" {
			rule.WithFullDescription(sarif.NewMultiformatMessageString().WithText(res.Why))
		}
		result := run.CreateResultForRule(res.ID).
			WithLevel(map[bool]string{true: "error", false: "warning"}[binding(res.Level)]).
			WithMessage(sarif.NewTextMessage(res.message())).
			WithPartialFingerprints(map[string]string{"cnitest/v1": r.Profile + " " + res.Name()})
		conf := r.conflistPlace(res.Plugin)
		if res.Kind == "scenario" {
			result.AddLocation(res.scenarioPlace()).AddRelatedLocation(conf.
				WithID(1).WithMessage(sarif.NewTextMessage("the conflist under test")))
		} else {
			result.AddLocation(conf)
		}
	}
	document := sarif.NewReport()
	document.AddRun(run)
	return document.PrettyWrite(out)
}

// release is the form of the version of a release, whose tag has the same name.
var release = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)

// message is what the result says, with the way to repeat it.
func (r Result) message() string {
	text := r.Name() + ": " + r.Reason
	if r.Repeat != "" {
		text += "\n\n" + r.Repeat
	}
	return text
}

// stepPlace is how the reason of a failed scenario starts.
var stepPlace = regexp.MustCompile(`^(\S+\.ya?ml):(\d+): `)

// scenarioPlace is the step at which a scenario failed, or its file.
func (r Result) scenarioPlace() *sarif.Location {
	file, line := fmt.Sprintf("scenarios/%s.yaml", r.ID), 1
	if found := stepPlace.FindStringSubmatch(r.Reason); found != nil {
		file = found[1]
		line, _ = strconv.Atoi(found[2])
	}
	artifact := sarif.NewSimpleArtifactLocation(filepath.ToSlash(file))
	if !filepath.IsAbs(file) {
		artifact.WithURIBaseID(scenarioBase)
	}
	return place(artifact, max(1, line))
}

// conflistPlace is the line of the conflist that names a plugin; the first line if none does.
func (r *Report) conflistPlace(plugin string) *sarif.Location {
	line := 1
	if r.Inputs != nil && len(r.Inputs.Files) > 0 {
		named := regexp.MustCompile(`"type"\s*:\s*"` + regexp.QuoteMeta(plugin) + `"`)
		if at := named.FindStringIndex(r.Inputs.Files[0].Text); at != nil {
			line += strings.Count(r.Inputs.Files[0].Text[:at[0]], "\n")
		}
	}
	return place(sarif.NewSimpleArtifactLocation(filepath.ToSlash(r.Implementation.Conflist)), line)
}

func place(artifact *sarif.ArtifactLocation, line int) *sarif.Location {
	return sarif.NewLocationWithPhysicalLocation(sarif.NewPhysicalLocation().WithArtifactLocation(artifact).
		WithRegion(sarif.NewRegion().WithStartLine(line)))
}
