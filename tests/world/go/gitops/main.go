// gitops asks the libraries that GitOps tools use what they make of an object: Flux's kstatus, and the Lua of Argo CD.
//
// It reads one JSON question a line and writes one JSON answer a line:
//
//	{"kstatus": object}                  -> {"status": "Current", "message": "…"}
//	{"health": script, "object": object} -> what the script returns
//	{"action": script, "object": object} -> the object that the script returns
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type question struct {
	Kstatus map[string]any `json:"kstatus"`
	Health  string         `json:"health"`
	Action  string         `json:"action"`
	Object  map[string]any `json:"object"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		answer, err := answer(lines.Bytes())
		if err != nil {
			answer, _ = json.Marshal(map[string]string{"error": err.Error()})
		}
		fmt.Println(string(answer))
	}
}

func answer(line []byte) ([]byte, error) {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return nil, err
	}
	switch {
	case asked.Kstatus != nil:
		return kstatus(line)
	case asked.Health != "":
		return run(asked.Health, asked.Object)
	case asked.Action != "":
		return run(asked.Action, asked.Object)
	}
	return nil, fmt.Errorf("no question")
}

func kstatus(line []byte) ([]byte, error) {
	// As a client decodes it: whole numbers are integers.
	var asked struct {
		Kstatus unstructured.Unstructured `json:"kstatus"`
	}
	if err := json.Unmarshal(line, &asked); err != nil {
		return nil, err
	}
	result, err := status.Compute(&asked.Kstatus)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]string{"status": result.Status.String(), "message": result.Message})
}

// run gives a script `obj` and the libraries that Argo CD gives it.
func run(script string, object map[string]any) ([]byte, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.OsLibName, openSafeOs},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	state.SetGlobal("obj", luajson.DecodeValue(state, object))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	return luajson.Encode(state.Get(-1))
}

// openSafeOs: of the library `os` Argo CD has only what tells the time.
func openSafeOs(state *lua.LState) int {
	lua.OpenOs(state)
	all := state.GetGlobal(lua.OsLibName).(*lua.LTable)
	safe := state.NewTable()
	for _, name := range []string{"time", "date"} {
		safe.RawSetString(name, all.RawGetString(name))
	}
	state.SetGlobal(lua.OsLibName, safe)
	return 0
}
