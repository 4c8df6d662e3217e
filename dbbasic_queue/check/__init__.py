"""Would this config work here?"""
