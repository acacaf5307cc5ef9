package kubeproxy

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/cnitest/cnitest/e2e/service"
)

// names returns the name of a Service and of its port: NAMESPACE/NAME:PORT without what may be absent.
func names(s service.Service) (name, port string) {
	_, name, found := strings.Cut(s.Name, "/")
	if !found {
		name = s.Name
	}
	name, port, _ = strings.Cut(name, ":")
	return name + "-" + s.Protocol, port
}

// serviceObjects returns the Services, by name.
func serviceObjects(all []service.Service) map[string]object {
	objects := map[string]object{}
	for _, s := range all {
		name, port := names(s)
		var ips, families []string
		for _, a := range s.ClusterIPs {
			ips, families = append(ips, a.String()), append(families, family(a))
		}
		spec := object{
			"type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families,
			"ipFamilyPolicy": "PreferDualStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
		}
		p := object{"name": port, "protocol": strings.ToUpper(s.Protocol), "port": s.Port}
		if s.NodePort != 0 {
			spec["type"], spec["externalTrafficPolicy"], p["nodePort"] = "NodePort", "Cluster", s.NodePort
			if s.LocalOnly {
				spec["externalTrafficPolicy"] = "Local"
			}
		}
		spec["ports"] = []object{p}
		objects[name] = object{"spec": spec}
	}
	return objects
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "IPv6"
	}
	return "IPv4"
}

// endpointSlices returns the slices of all Services, by name: one for each family and port of the endpoints.
func endpointSlices(all []service.Service) map[string]object {
	objects := map[string]object{}
	for _, s := range all {
		name, port := names(s)
		for _, e := range s.Endpoints {
			key := name + "-" + strings.ToLower(family(e.Address)) + "-" + strconv.Itoa(int(e.Port))
			if objects[key] == nil {
				objects[key] = object{
					"metadata":    object{"labels": object{"kubernetes.io/service-name": name}},
					"addressType": family(e.Address),
					"ports":       []object{{"name": port, "protocol": strings.ToUpper(s.Protocol), "port": e.Port}},
					"endpoints":   []object{},
				}
			}
			where := "elsewhere"
			if e.Local {
				where = nodeName
			}
			objects[key]["endpoints"] = append(objects[key]["endpoints"].([]object), object{
				"addresses": []string{e.Address.String()}, "nodeName": where,
				"conditions": object{"ready": true, "serving": true, "terminating": false},
			})
		}
	}
	return objects
}
