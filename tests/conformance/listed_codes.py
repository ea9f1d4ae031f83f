"""Codes as the value sets and code systems of packages list them, without filters and hierarchies:
enough of a terminology for tests of validation that are about other things."""

from functools import cache

from conformance.definitions import load
from terminology.lacking import Lacking


class ListedCodes:
    """Fits `conformance.profiles.Codes`."""

    def __init__(self, packages):
        self._packages = packages
        self._systems = cache(self._read_system)
        self._sets = cache(self._read_set)

    def member(self, value_set, system, code, version=None):
        lists = self._sets(value_set)
        if lists is None:
            return None
        if system is None:
            return any(code in (codes or ()) for codes in lists.values())
        if system not in lists:
            return False
        return None if lists[system] is None else code in lists[system]

    def lacking(self, value_set):
        return Lacking((value_set,) if self._packages.find("ValueSet", value_set) is None else ())

    def known(self, system, code, version=None):
        concepts = self._systems(system)
        if concepts is None or (version and version not in self.versions(system)):
            return None
        return code in concepts

    def versions(self, system):
        found = self._packages.find("CodeSystem", system)
        return (found["version"],) if found and "version" in found else ()

    def named(self, system):
        return f"{system}|1"

    def display_matches(self, system, code, display):
        concepts = self._systems(system.partition("|")[0])
        known = concepts.get(code) if concepts else None
        return None if known is None else display.casefold() == known.casefold()

    def _read_system(self, url):
        found = self._packages.find("CodeSystem", url)
        if found is None or found.get("content") != "complete":
            return None
        return dict(_concepts(found.get("concept", ())))

    def _read_set(self, url):
        if url.partition("|")[0] in load().open_lists:
            return None
        found = self._packages.find("ValueSet", url)
        compose = found.get("compose") if found else None
        if compose is None or "exclude" in compose:
            return None
        lists = {}
        for include in compose["include"]:
            for imported in include.get("valueSet", ()):
                more = self._sets(imported)
                if more is None:
                    return None
                lists.update(more)
            system = include.get("system")
            if system is None:
                continue
            if "filter" in include:
                codes = None
            elif "concept" in include:
                codes = {each["code"] for each in include["concept"]}
            else:
                known = self._systems(system)
                codes = None if known is None else set(known)
            before = lists.get(system, set())
            lists[system] = None if codes is None or before is None else before | codes
        return lists


def _concepts(concepts):
    for each in concepts:
        yield each["code"], each.get("display")
        yield from _concepts(each.get("concept", ()))
